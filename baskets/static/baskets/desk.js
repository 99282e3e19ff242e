/* The desk in a browser: tells the server its time zone, and counts down what is left of a hold.
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
        link.textContent = "Reload the page";
        link.setAttribute("role", "status");
        shown.after(" ", link);
    };
    const tick = () => {
        const passed = (performance.now() - began) / 1000;
        for (const shown of document.querySelectorAll("[data-seconds-left]")) {
            const left = Math.ceil(Number(shown.dataset.secondsLeft) - passed);
            shown.textContent = left > 0 ? `${said(left)} left` : "over";
            shown.classList.toggle("over", left <= 0);
            if (left <= 0) {
                suggestReload(shown);
            }
        }
    };
    document.addEventListener("DOMContentLoaded", () => {
        if (document.querySelector("[data-seconds-left]")) {
            tick();
            setInterval(tick, 500);
        }
    });
})();
