// A handler of the seam shop.price, whose effects are "none": what docs/reference/protocol.md asks of one, and no more.
package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func price(item string) any { return len(item) * 100 }

func main() {
	nc, _ := nats.Connect(os.Args[1], nats.MaxReconnects(-1))
	js, _ := jetstream.New(nc)
	group, err := js.CreateOrUpdateConsumer(context.Background(), "CF_CMD", jetstream.ConsumerConfig{
		Durable: "tool-shop-price", FilterSubject: "cf.*.*.*.tool.shop-price.*.*.invoke",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Second, MaxDeliver: 5, MaxAckPending: 1000})
	if err != nil {
		panic(err)
	}
	group.Consume(func(command jetstream.Msg) {
		answer := map[string]any{"outcome": "not-executed", "reason": "expired"}
		if deadline, err := time.Parse(time.RFC3339Nano, command.Headers().Get("ce-expirytime")); err == nil && time.Now().Before(deadline) {
			var call struct{ Arguments struct{ Item string } }
			json.Unmarshal(command.Data(), &call)
			answer = map[string]any{"outcome": "value", "value": price(call.Arguments.Item), "handler": "go"}
		}
		data, _ := json.Marshal(answer)
		result := &nats.Msg{Subject: strings.TrimSuffix(command.Subject(), "invoke") + "result", Data: data, Header: nats.Header{}}
		for name, values := range command.Headers() { // who asked, for whom, in which run: as it came
			if strings.HasPrefix(name, "ce-") {
				result.Header[name] = values
			}
		}
		result.Header.Set("ce-id", command.Headers().Get("ce-id")+".result") // the same at each delivery: stored once
		result.Header.Set("ce-type", "tool.result")
		result.Header.Set("ce-source", "urn:shop:go")
		result.Header.Set("Content-Type", "application/json")
		if _, err := js.PublishMsg(context.Background(), result, jetstream.WithMsgID(result.Header.Get("ce-id"))); err != nil {
			return // it is delivered again
		}
		result.Subject = command.Headers().Get("ce-replyto") // a hint, after the log
		nc.PublishMsg(result)
		command.Ack()
	})
	select {}
}
