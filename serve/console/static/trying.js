// Sends a file, or its beginning, as the body of a request; what comes back is shown below the form.
"use strict";

(() => {
  const TEXT = /\.(csv|tsv|txt|dat|jsonl|ndjson)$/i;

  async function beginning(file, limit) {
    if (file.size <= limit) return { body: file, cut: false };
    if (!TEXT.test(file.name)) return null;
    const bytes = new Uint8Array(await file.slice(0, limit).arrayBuffer());
    return { body: bytes.slice(0, bytes.lastIndexOf(10) + 1), cut: true };
  }

  function say(place, text) {
    const said = document.createElement("p");
    said.className = "problem inline";
    said.textContent = text;
    place.replaceChildren(said);
  }

  async function send(form) {
    const file = form.elements.file.files[0], limit = Number(form.dataset.limit), place = document.getElementById("tried");
    const sent = await beginning(file, limit);
    if (!sent) return say(place, `The file has ${file.size} bytes, and ${limit} can be tried. Take some of its rows as CSV or JSON Lines.`);
    const query = new URLSearchParams({ node: form.elements.node.value, file: file.name, cut: sent.cut });
    const headers = { ...JSON.parse(document.body.getAttribute("hx-headers") ?? "{}"), "HX-Request": "true", "Content-Type": "application/octet-stream" };
    const answer = await fetch(`${form.getAttribute("action")}?${query}`, { method: "POST", headers, body: sent.body });
    const html = await answer.text();
    if (answer.ok) return htmx.swap(place, html, { swapStyle: "innerHTML" });
    const problem = new DOMParser().parseFromString(html, "text/html").getElementById("problem");
    if (problem) place.replaceChildren(problem); else say(place, "The service has refused the file. Reload the page, and try again.");
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("try");
    if (!form) return;
    const button = form.querySelector("button");
    button.disabled = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await send(form);
      } catch {
        say(document.getElementById("tried"), "The service cannot be reached. Nothing is lost: try again in a moment.");
      } finally {
        button.disabled = false;
      }
    });
  });
})();
