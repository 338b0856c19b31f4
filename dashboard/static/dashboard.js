// Three small things that only a browser can do: remember the colours, copy a command line, and take shortcuts.
"use strict";

(() => {
  const KEY = "headrace-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  const chosen = () => {
    try { return localStorage.getItem(KEY) || "system"; } catch { return "system"; }
  };

  const apply = () => {
    const theme = chosen();
    const dark = theme === "dark" || (theme === "system" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    if (document.body && window.Quasar?.Dark) window.Quasar.Dark.set(dark);
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      const words = `Colours: ${theme === "system" ? "as the system has them" : theme}. Change`;
      button.setAttribute("aria-label", words);
      button.setAttribute("title", words);
      button.dataset.chosen = theme;
    }
  };

  const switchTheme = () => {
    const order = ["system", "dark", "light"];
    const next = order[(order.indexOf(chosen()) + 1) % order.length];
    try { localStorage.setItem(KEY, next); } catch { /* a browser that keeps nothing: it lasts for this page */ }
    apply();
    say(`Colours: ${next}`);
  };

  const say = (words) => {
    const region = document.querySelector("[data-said]");
    if (region) region.textContent = words;
  };

  const copy = async (button) => {
    const words = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: words });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.dataset.copied = "yes";
    say("Copied");
    setTimeout(() => delete button.dataset.copied, 1500);
  };

  const help = () => document.querySelector("dialog[data-help]");

  let leader = 0;
  const shortcut = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable=true]")) return;
    if (event.key === "?") { help()?.showModal(); return; }
    if (document.querySelector("dialog[open], .q-dialog")) return;
    if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); search.select?.(); }
      return;
    }
    // Before single letters: `g t` goes to a page, and `t` alone changes the colours.
    if (Date.now() - leader < 1500) {
      leader = 0;
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) link.click();
      return;
    }
    if (event.key === "t") { switchTheme(); return; }
    if (event.key === "g") { leader = Date.now(); return; }
    if (event.key === "j" || event.key === "k") {
      const rows = [...document.querySelectorAll("[data-row]")];
      if (!rows.length) return;
      const at = rows.indexOf(document.activeElement);
      const next = event.key === "j" ? Math.min(at + 1, rows.length - 1) : Math.max(at - 1, 0);
      rows[next].focus();
    }
  };

  document.addEventListener("click", (event) => {
    const to = event.target.closest?.("[data-copy], [data-theme-switch], [data-open-help], [data-close-help]");
    if (!to) return;
    if (to.dataset.copy !== undefined) copy(to);
    else if (to.dataset.themeSwitch !== undefined) switchTheme();
    else if (to.dataset.openHelp !== undefined) help()?.showModal();
    else help()?.close();
  });
  document.addEventListener("keydown", shortcut);
  // `system.addEventListener` tells of a change while the page is open.
  system.addEventListener("change", apply);
  apply();
  // Quasar and the page's elements come after this script.
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    const seen = new MutationObserver(() => {
      if (!document.querySelector("[data-theme-switch]")) return;
      seen.disconnect();
      apply();
      // On a phone the places scroll: the one where this is comes into sight.
      const here = document.querySelector(".side nav a[aria-current]");
      const places = here?.closest("nav");
      if (places) places.scrollLeft = here.offsetLeft - places.offsetLeft - 60;
    });
    seen.observe(document.body, { childList: true, subtree: true });
  });
})();
