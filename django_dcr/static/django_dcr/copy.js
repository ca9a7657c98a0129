"use strict";

// Without this file, or without a clipboard, the secret can be selected by hand.
for (const button of document.querySelectorAll("button[data-copies]")) {
    if (!navigator.clipboard) {
        continue;
    }
    const source = document.getElementById(button.dataset.copies);
    button.hidden = false;
    button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(source.textContent);
        document.getElementById("dcr-copied").textContent = button.dataset.copied;
    });
}
