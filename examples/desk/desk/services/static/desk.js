// Writing a report takes seconds: the page asks again and again how far it is, until the answer to its POST arrives.
"use strict";

const form = document.getElementById("report");

if (form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const bar = document.getElementById("progress");
    const status = document.getElementById("status");
    const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    button.disabled = true;
    bar.hidden = false;
    status.textContent = "reading";
    const timer = setInterval(async () => {
      const reply = await fetch(`/progress/${id}`);
      if (!reply.ok) return;
      const known = await reply.json();
      bar.value = known.fraction;
      status.textContent = known.note;
    }, 400);
    try {
      const reply = await fetch("/reports", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ topic: form.dataset.topic.slice(0, 200), request_id: id }),
      });
      const written = await reply.json();
      if (!reply.ok) throw new Error(written.error.message);
      location.href = `/reports/${encodeURIComponent(written.name)}`;
    } catch (error) {
      status.textContent = error.message;
      bar.hidden = true;
      button.disabled = false;
    } finally {
      clearInterval(timer);
    }
  });
}
