// Trades a token for a session. It is sent once, in a header, and kept nowhere.
"use strict";

const door = document.getElementById("door");
const refused = document.getElementById("refused");

function destination() {
  const root = document.body.dataset.root;
  const wanted = new URL(new URLSearchParams(location.search).get("next") || root, location.origin);
  return wanted.origin === location.origin && wanted.pathname.startsWith(root) ? wanted.pathname : root;
}

door.addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = document.getElementById("token");
  refused.hidden = true;
  try {
    const answer = await fetch("/api/v1/session", {
      method: "POST",
      headers: { Authorization: `Bearer ${token.value.trim()}` },
    });
    if (answer.ok) {
      location.replace(destination());
      return;
    }
    refused.textContent = answer.status === 401 ? "Nobody has this token." : (await answer.json()).detail;
  } catch (error) {
    refused.textContent = error instanceof TypeError ? "The control plane does not answer." : "This is no token.";
  }
  refused.hidden = false;
  token.select();
});
