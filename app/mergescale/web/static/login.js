// Looks every other second whether the login was decided, and shows the page that says so. The page
// is left alone until then, so that a command which is being copied stays selected.
"use strict";

const shown = document.querySelector("[data-state]").dataset.state;

async function look() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const state = page.querySelector("[data-state]");
    if (state !== null && state.dataset.state !== shown) {
      location.reload();
      return;
    }
  } catch {
    // The server restarts, or the network is away: look again.
  }
  setTimeout(look, 2000);
}

setTimeout(look, 2000);
