// A report, followed by its events: one stream, opened before the work starts, and no request that only asks again.
"use strict";

const card = document.getElementById("live");
const RETRY = 1000; // milliseconds

if (card) {
  const at = (id) => document.getElementById(id);
  const [bar, note, steps, pill, write, open] = ["progress", "note", "steps", "connection", "write", "open"].map(at);
  let stream = null;
  let place = ""; // the last event seen: where a new stream goes on
  let token = "";
  let run = ""; // this report's id, chosen here so that its first event is known
  let written = null; // what the answer to our POST said
  let ended = null;

  const connection = (state, words) => {
    card.dataset.state = state;
    pill.textContent = words;
  };

  const post = async (path, body) => {
    const reply = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const said = await reply.json();
    if (!reply.ok) throw new Error(said.error.message);
    return said;
  };

  const step = (words) => {
    for (const done of steps.children) done.className = "done";
    const item = document.createElement("li");
    item.textContent = words;
    item.className = "now";
    steps.append(item);
  };

  const finish = () => {
    if (!ended || !written) return; // the event may come before the answer that names the report
    stream.close();
    for (const done of steps.children) done.className = "done";
    if (ended.outcome === "value") {
      connection("done", "done");
      bar.value = 1;
      note.textContent = "The report is written.";
      open.href = `/reports/${encodeURIComponent(written.name)}`;
      open.hidden = false;
      write.hidden = true;
    } else {
      connection("failed", "stopped");
      note.textContent = `The report was not written (${ended.outcome}${ended.reason ? `: ${ended.reason}` : ""}).`;
      write.disabled = false;
    }
  };

  const progress = (event) => {
    const said = hear(event);
    if (!said || ended) return;
    bar.value = said.fraction ?? bar.value;
    note.textContent = `Writing it: ${Math.round(bar.value * 100)} %`;
    step(said.message);
  };

  // Streams tell of everything this visitor has under way; the rest is another tab's.
  const hear = (event) => {
    place = event.lastEventId || place;
    const said = JSON.parse(event.data);
    return said.correlationid === run ? said.data : null;
  };

  // What was missed cannot be had any more: ask once how the task stands.
  const reset = async (event) => {
    place = event.lastEventId || place;
    if (!written) return;
    const reply = await fetch(`/_crossfade/tasks/${written.task}`, { headers: { Authorization: `Bearer ${token}` } });
    if (reply.ok && reply.redirected) {
      ended = { outcome: "value" };
      finish();
    }
  };

  // Resolves when the stream is open. A browser mends a broken connection itself, with the place it was at; an answer
  // that is no stream (a token that has ended, a restart) leaves it closed, and then it is ours to open a new one.
  const listen = () =>
    new Promise((ready) => {
      const connect = async () => {
        try {
          token = (await post("/stream-token", {})).token;
        } catch {
          setTimeout(connect, RETRY);
          return;
        }
        const after = place ? `&after=${encodeURIComponent(place)}` : "";
        stream = new EventSource(`/_crossfade/stream?token=${encodeURIComponent(token)}${after}`);
        stream.addEventListener("crossfade.ready", (event) => {
          place = event.lastEventId || place;
          connection("live", "live");
          ready();
        });
        stream.addEventListener("open", () => connection("live", "live"));
        stream.addEventListener("tool.progress", progress);
        stream.addEventListener("crossfade.reset", reset);
        stream.addEventListener("call.ended", (event) => {
          const said = hear(event);
          if (!said) return;
          ended = said;
          finish();
        });
        stream.addEventListener("error", () => {
          if (ended && written) return;
          connection("waiting", "reconnecting");
          if (stream.readyState === EventSource.CLOSED) setTimeout(connect, RETRY);
        });
      };
      connect();
    });

  write.addEventListener("click", async () => {
    write.disabled = true;
    open.hidden = true;
    steps.replaceChildren();
    bar.value = 0;
    written = ended = null;
    run = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    connection("waiting", "connecting");
    note.textContent = "Reading the documentation";
    try {
      if (!stream || stream.readyState === EventSource.CLOSED) await listen();
      written = await post("/reports/begin", { topic: card.dataset.topic.slice(0, 200), request_id: run });
      finish();
    } catch (error) {
      connection("failed", "stopped");
      note.textContent = error.message;
      write.disabled = false;
    }
  });
}
