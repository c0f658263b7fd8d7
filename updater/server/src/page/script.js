// The page is whole without this: it looks again by itself, and keeps the token while the tab is open.
"use strict";

const live = document.getElementById("live");
const token = document.querySelector("input[name=token]");

async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/live");
    if (answer.ok) live.innerHTML = await answer.text();
    live.classList.toggle("dim", !answer.ok);
  } catch {
    live.classList.add("dim");
  }
}

if (live) setInterval(look, 5000);

if (token) {
  token.value = sessionStorage.getItem("token") ?? "";
  token.form.addEventListener("submit", () => sessionStorage.setItem("token", token.value));
}
