/* The search of the header: "/" focuses it, and a list's own search box hands it an API key that was pasted, so that no
   address has the key. Copy buttons. Fills in again what was typed before the user was signed out. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
    const finder = document.getElementById("finder");
    const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
    document.addEventListener("keydown", (event) => {
        if (finder && event.key === "/" && !event.ctrlKey && !event.altKey && !event.metaKey && !isTyping(event.target)) {
            event.preventDefault();
            finder.focus();
            finder.select();
        }
    });
    const box = document.getElementById("searchbar");
    if (finder && box) {
        box.form.addEventListener("submit", (event) => {
            if (/bk_[a-z0-9]{12}_|eyJ[\w-]{10,}\./.test(box.value)) {
                event.preventDefault();
                finder.value = box.value;
                finder.form.requestSubmit();
            }
        });
    }
    const words = finder ? finder.form.dataset : {};
    // In a list, order numbers and whole user ids get their buttons here, so that no row carries them. What hides characters is not copied.
    for (const [place, what] of [["#result_list .field-number .order-no", words.copyOrder], ["#result_list :is(.field-of_user, .field-user) .given", words.copyUser]]) {
        for (const shown of document.querySelectorAll(place)) {
            if (!shown.querySelector(".hidden-char") && !shown.textContent.endsWith("…")) {
                const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", ariaLabel: what });
                Object.assign(button.dataset, { copy: shown.textContent, copied: words.copied, notCopied: words.notCopied });
                button.title = button.ariaLabel;
                (shown.closest("a") ?? shown).after(button);
            }
        }
    }
    for (const button of document.querySelectorAll("button[data-copy]")) {
        button.hidden = false;
        button.addEventListener("click", async () => {
            const [text, label] = [button.textContent, button.ariaLabel];
            try {
                await navigator.clipboard.writeText(button.dataset.copy);
                [button.textContent, button.ariaLabel] = [text ? button.dataset.copied : "OK", button.dataset.copied];
            } catch {
                [button.textContent, button.ariaLabel] = [text ? button.dataset.notCopied : "–", button.dataset.notCopied];
            }
            setTimeout(() => { [button.textContent, button.ariaLabel] = [text, label]; }, 2000);
        });
    }
    const kept = document.getElementById("interrupted");
    if (kept) {
        const fields = JSON.parse(kept.textContent);
        const place = {};
        for (const field of document.querySelectorAll("#content input, #content textarea, #content select")) {
            const values = fields[field.name] ?? (field.name === "_selected_action" && fields.row?.map((row) => row.split(" ")[0]));
            if (!values || ["hidden", "password", "file", "submit"].includes(field.type)) {
                continue;
            }
            if (["checkbox", "radio"].includes(field.type)) {
                field.checked = values.includes(field.value);
            } else if (field.type === "select-multiple") {
                for (const option of field.options) { option.selected = values.includes(option.value); }
            } else {
                place[field.name] = (place[field.name] ?? -1) + 1;
                field.value = values[place[field.name]] ?? field.value;
            }
        }
    }
});
