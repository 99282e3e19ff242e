/* The desk in a browser: tells the server its time zone, counts down what is left of a hold, and puts the keyboard where work begins.
   The time that is left comes from the server's clock; here only the seconds since the page came are counted. */
"use strict";

(() => {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone) {
        const secure = location.protocol === "https:" ? "; Secure" : "";
        document.cookie = `desk_zone=${encodeURIComponent(zone)}; Path=/admin/; Max-Age=31536000; SameSite=Lax${secure}`;
    }

    const began = performance.now();
    const two = (number) => String(number).padStart(2, "0");
    const said = (seconds) => {
        const hours = Math.floor(seconds / 3600);
        const rest = `${two(Math.floor((seconds % 3600) / 60))}:${two(seconds % 60)}`;
        return hours ? `${hours}:${rest}` : rest;
    };
    // Once, when the first hold on the page ends: what the page shows may be out of date. Nothing that was typed is lost.
    const suggestReload = (shown) => {
        if (document.querySelector(".reload")) {
            return;
        }
        const link = document.createElement("a");
        link.className = "reload";
        link.href = location.href;
        link.textContent = shown.dataset.reload;
        link.setAttribute("role", "status");
        shown.after(" ", link);
    };
    const tick = () => {
        const passed = (performance.now() - began) / 1000;
        for (const shown of document.querySelectorAll("[data-seconds-left]")) {
            const left = Math.ceil(Number(shown.dataset.secondsLeft) - passed);
            shown.textContent = left > 0 ? shown.dataset.left.replace("%(time)s", said(left)) : shown.dataset.over;
            shown.classList.toggle("over", left <= 0);
            if (left <= 0) {
                suggestReload(shown);
            }
        }
    };

    // Work begins at the first hit of a search, at a field with an error, at the first field of a form, or in the search of a list.
    // Not on a touch screen, where a field with the focus covers half of it with a keyboard.
    const begin = () => {
        if (document.querySelector("[autofocus]") || !matchMedia("(pointer: fine)").matches) {
            return;
        }
        const hit = new URLSearchParams(location.search).get("q") ? "#result_list tbody th a" : null;
        const places = [
            hit,
            "#content .errors :is(textarea, select, input)",
            "#content-main .aligned :is(textarea, select, input):not([type=hidden], [type=submit])",
            "#login-form input:not([type=hidden])",
            "#searchbar",
        ];
        for (const place of places) {
            const found = place && document.querySelector(place);
            if (found) {
                found.focus({ preventScroll: true });
                return;
            }
        }
    };
    // A table that is wider than its frame is scrolled by the keyboard, too.
    const frames = () => {
        for (const frame of document.querySelectorAll(".wide, .results")) {
            if (frame.scrollWidth > frame.clientWidth) {
                frame.tabIndex = 0;
            } else {
                frame.removeAttribute("tabindex");
            }
        }
    };
    // On a narrow screen the style sheet shows a row as a block, each value after the head of its column.
    const heads = () => {
        for (const table of document.querySelectorAll("#result_list, .wide table")) {
            const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
            for (const row of table.querySelectorAll("tbody tr")) {
                [...row.cells].forEach((cell, place) => {
                    if (names[place] && cell.colSpan === 1 && !cell.querySelector(".action-select")) {
                        cell.dataset.head = cell.dataset.head || names[place];
                    }
                });
            }
        }
    };
    // In a narrow column a time breaks between its day and its hour, and nowhere else.
    const times = () => {
        for (const time of document.querySelectorAll("#result_list time, .wide time")) {
            const parts = time.textContent.split(" ").map((part) => Object.assign(document.createElement("span"), { textContent: part }));
            time.replaceChildren(...parts.flatMap((part) => [part, " "]).slice(0, -1));
        }
    };
    addEventListener("resize", frames);
    document.addEventListener("DOMContentLoaded", () => {
        heads();
        times();
        frames();
        begin();
        if (document.querySelector("[data-seconds-left]")) {
            tick();
            setInterval(tick, 500);
        }
    });
})();
