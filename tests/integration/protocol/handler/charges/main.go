// A handler of the seam shop.charge, whose effects are "unsafe", as docs/reference/protocol.md describes one: what it must do, and no more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const seam = "shop.charge"

func charge(arguments json.RawMessage) (any, error) {
	var given struct {
		Who   string
		Cents int
	}
	if err := json.Unmarshal(arguments, &given); err != nil || given.Who == "" {
		return nil, errors.New("who is missing")
	}
	if given.Who == "mallory" {
		return nil, errors.New("mallory is not charged")
	}
	journal, _ := os.OpenFile(os.Args[3], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	defer journal.Close()
	fmt.Fprintln(journal, given.Who)
	return fmt.Sprintf("%s paid %d", given.Who, given.Cents), nil
}

func main() {
	url, prefix, ctx := os.Args[1], os.Args[2], context.Background()
	nc := must(nats.Connect(url, nats.MaxReconnects(-1)))
	js := must(jetstream.New(nc))
	policies := must(js.KeyValue(ctx, prefix+"_policy"))
	token, stream := strings.ReplaceAll(seam, ".", "-"), strings.ToUpper(prefix)+"_CMD"
	group := must(js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: "tool-" + token, FilterSubject: prefix + ".*.*.*.tool." + token + ".*.*.invoke", // see "Consume"
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Second, MaxDeliver: 5, MaxAckPending: 1000,
	}))
	must(group.Consume(func(command jetstream.Msg) {
		if err := handle(ctx, nc, js, policies, command); err != nil {
			fmt.Fprintln(os.Stderr, "left to redelivery:", err)
		}
	}))
	here := must(js.KeyValue(ctx, prefix+"_instances"))
	must(0, announce(ctx, here, policies))
	fmt.Println("serving")
	moves := must(policies.Watch(ctx, seam)).Updates()
	for { // see "Be counted"
		select {
		case <-moves:
		case <-time.After(3 * time.Second):
		}
		if err := announce(ctx, here, policies); err != nil {
			fmt.Fprintln(os.Stderr, "not reported:", err)
		}
	}
}

func announce(ctx context.Context, here, policies jetstream.KeyValue) error {
	var policy struct{ Revision int } // 0 as long as there is none
	if entry, err := policies.Get(ctx, seam); err == nil {
		_ = json.Unmarshal(entry.Value(), &policy)
	}
	report, _ := json.Marshal(map[string]any{"role": "worker", "seen": time.Now().UTC().Format(time.RFC3339Nano),
		"seams": map[string]int{seam: policy.Revision}, "remotes": []string{}, "build": "go-1"})
	_, err := here.Put(ctx, fmt.Sprintf("go%d", os.Getpid()), report)
	return err
}

func handle(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, policies jetstream.KeyValue, command jetstream.Msg) error {
	headers, stem := command.Headers(), strings.TrimSuffix(command.Subject(), ".invoke")
	meta, err := command.Metadata()
	if err != nil {
		return err
	}
	var asked struct{ Arguments json.RawMessage }
	deadline, late := time.Parse(time.RFC3339Nano, headers.Get("ce-expirytime"))
	if late != nil || json.Unmarshal(command.Data(), &asked) != nil || !strings.HasPrefix(headers.Get("ce-specversion"), "1.") {
		return command.TermWithReason("unreadable") // the advisory of it becomes a dead letter
	}
	claim := uint64(0)
	if headers.Get("ce-guarded") == "1" { // see "Claim": at most one side may start it
		record, _ := json.Marshal(map[string]any{"callid": headers.Get("ce-callid"), "seam": seam, "nonce": nats.NewInbox(),
			"role": "worker", "instance": "go", "attempt": meta.NumDelivered, "policyrev": number(headers.Get("ce-policyrev")),
			"arguments": "", "expires": headers.Get("ce-expirytime")})
		own := message(stem+".own", "call.claimed", nats.NewInbox(), record, headers, nil)
		won, err := js.PublishMsg(ctx, own, jetstream.WithExpectLastSequenceForSubject(meta.Sequence.Stream, stem+".>"))
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			return command.DoubleAck(ctx) // somebody else owns the call, and answers it
		} else if err != nil {
			return err // in doubt: nothing runs, and nothing is acknowledged
		}
		claim = won.Sequence
	}
	answer := map[string]any{}
	if time.Now().After(deadline) {
		answer = map[string]any{"outcome": "not-executed", "reason": "expired"}
	} else if stale(ctx, policies, headers) {
		answer = map[string]any{"outcome": "not-executed", "reason": "stale-policy"}
	} else if value, err := charge(asked.Arguments); err != nil {
		answer = map[string]any{"outcome": "error", "error": map[string]any{"type": "ChargeError", "message": err.Error()}, "handler": "go"}
	} else {
		answer = map[string]any{"outcome": "value", "value": value, "handler": "go"}
	}
	data, _ := json.Marshal(answer)
	id := fmt.Sprintf("%s.result.%d", headers.Get("ce-id"), claim)
	result := message(stem+".result", "tool.result", id, data, headers, map[string]string{"ce-path": "bus", "ce-causationid": headers.Get("ce-id")})
	options := []jetstream.PublishOpt{jetstream.WithMsgID(id)}
	if claim > 0 { // see "Log the result": fenced by our claim
		options = append(options, jetstream.WithExpectLastSequenceForSubject(claim, stem+".own"))
	}
	if _, err := js.PublishMsg(ctx, result, options...); err != nil {
		return err
	}
	if reply := headers.Get("ce-replyto"); reply != "" { // a hint, after the log
		result.Subject = reply
		result.Header.Del("Nats-Msg-Id")
		_ = nc.PublishMsg(result)
	}
	return command.DoubleAck(ctx)
}

func message(subject, kind, id string, data []byte, of nats.Header, more map[string]string) *nats.Msg {
	found := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	for _, name := range []string{"correlationid", "tenantid", "userid", "sessionid", "partitionkey", "traceparent", "tracestate", "callid", "policyrev", "seam"} {
		if value := of.Get("ce-" + name); value != "" {
			found.Header.Set("ce-"+name, value) // as it came: it is percent-encoded already
		}
	}
	for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "urn:shop:go", "ce-type": kind,
		"ce-time": time.Now().UTC().Format(time.RFC3339Nano), "Content-Type": "application/json", "ce-datacontenttype": "application/json"} {
		found.Header.Set(name, value)
	}
	for name, value := range more {
		found.Header.Set(name, value)
	}
	return found
}

func stale(ctx context.Context, policies jetstream.KeyValue, headers nats.Header) bool {
	var policy struct{ Minrev int }
	entry, err := policies.Get(ctx, seam)
	return err == nil && json.Unmarshal(entry.Value(), &policy) == nil && number(headers.Get("ce-policyrev")) < policy.Minrev
}

func number(text string) int {
	found, _ := strconv.Atoi(text)
	return found
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}
