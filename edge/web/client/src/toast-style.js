// The look of toasts, status and bell, in shadow roots: the page's own rules do not
// reach in, and theirs reach nothing outside. Custom properties `--belfry-*` do.
//
// Promise: works under a CSP without `unsafe-inline`: an adopted style sheet where
// the browser has them, otherwise one `<style>` with the nonce of the script.

/** Read while the script runs; null in modules and later. */
const NONCE = typeof document === "undefined" ? "" : (document.currentScript?.nonce ?? /** @type {HTMLScriptElement | null} */ (document.querySelector("script[nonce]"))?.nonce ?? "");

const DARK =
  "--_bg:var(--belfry-background,#22262f);--_fg:var(--belfry-color,#eef0f5);--_soft:var(--belfry-color-soft,#aeb4c4);--_line:var(--belfry-border,#3b414f);--_good:var(--belfry-success,#63d19a);--_bad:var(--belfry-error,#ff8f87);--_warn:var(--belfry-warning,#f2bd5c);--_note:var(--belfry-info,#8ab6ff);--_shadow:var(--belfry-shadow,0 3px 12px rgb(0 0 0/.5))";

const CSS = `
:host{--_bg:var(--belfry-background,#fff);--_fg:var(--belfry-color,#1d2230);--_soft:var(--belfry-color-soft,#5a6072);--_line:var(--belfry-border,#d9dbe3);--_good:var(--belfry-success,#1c7c4a);--_bad:var(--belfry-error,#b3261e);--_warn:var(--belfry-warning,#8f5b00);--_note:var(--belfry-info,#2a5fb4);--_shadow:var(--belfry-shadow,0 3px 12px rgb(20 24 40/.18));--_radius:var(--belfry-radius,12px);font:var(--belfry-font,15px/1.45 system-ui,sans-serif)}
@media (prefers-color-scheme:dark){:host(:not([theme=light])){${DARK}}}
:host([theme=dark]){${DARK}}
*{box-sizing:border-box}
[hidden]{display:none!important}
button{background:none;border:0;color:inherit;cursor:pointer;font:inherit;padding:0}
:focus-visible{outline:2px solid var(--_note);outline-offset:2px}
.toasts{color:var(--_fg);display:flex;flex-direction:column;gap:10px;inset-block-start:var(--belfry-inset-top,var(--belfry-inset,0));inset-inline-end:var(--belfry-inset,0);max-height:calc(100vh - var(--belfry-inset-top,0px));overflow:hidden auto;padding:16px;pointer-events:none;position:fixed;width:min(var(--belfry-width,400px),100vw);z-index:var(--belfry-z-index,2147483000)}
.toast,.toast-leaving{align-items:start;animation:in .22s ease-out;background:var(--_bg);border:1px solid var(--_line);border-inline-start:4px solid var(--_c);border-radius:var(--_radius);box-shadow:var(--_shadow);cursor:pointer;display:grid;flex:none;gap:2px 12px;grid-template-columns:22px minmax(0,1fr) 28px;padding:12px 10px 12px 14px;pointer-events:auto;position:relative}
[dir=rtl] .toast{padding:12px 14px 12px 10px}
.toast-leaving{animation:out .18s ease-in forwards;pointer-events:none}
[data-kind]{--_c:var(--_note)}[data-kind=success]{--_c:var(--_good)}[data-kind=error]{--_c:var(--_bad)}[data-kind=warning]{--_c:var(--_warn)}
.toast-sign{align-items:center;background:var(--_c);border-radius:50%;color:var(--_bg);display:flex;font-size:13px;font-weight:700;height:22px;justify-content:center;width:22px}
[data-kind=progress] .toast-sign{animation:turn .9s linear infinite;background:none;border:3px solid var(--_line);border-top-color:var(--_c)}
.toast-body{display:grid;gap:1px;min-width:0;overflow-wrap:anywhere}
.toast-title,.toast-open{font-weight:600;text-align:start}
.toast-open::after{content:"";inset:0;position:absolute}
.toast-open:focus-visible{outline:0}.toast-open:focus-visible::after{border-radius:8px;outline:2px solid var(--_note);outline-offset:-3px}
.toast-text{color:var(--_soft);font-size:.93em}
.toast-text:empty{display:none}
.toast-close{border-radius:6px;color:var(--_soft);font-size:20px;height:28px;line-height:1;margin-block:-3px;position:relative;width:28px}
.toast-close:hover{background:var(--_line);color:var(--_fg)}
progress{appearance:none;background:var(--_line);border:0;border-radius:9px;display:block;height:5px;margin-top:7px;overflow:hidden;width:100%}
progress::-webkit-progress-bar{background:var(--_line)}progress::-webkit-progress-value{background:var(--_c);border-radius:9px;transition:width .25s}progress::-moz-progress-bar{background:var(--_c)}
.toast-more{align-self:end;background:var(--_bg);border:1px solid var(--_line);border-radius:99px;box-shadow:var(--_shadow);color:var(--_soft);font-size:.87em;min-height:28px;padding:3px 14px;pointer-events:auto}
@keyframes in{from{opacity:0;transform:translateY(-8px)}}@keyframes out{to{opacity:0;transform:translateY(-6px)}}@keyframes turn{to{transform:rotate(1turn)}}
@media (width<560px){.toasts{gap:6px;inset-inline:0;padding:10px;max-height:33vh;max-height:33dvh;width:auto}.toast{padding-block:9px}}
@media (prefers-reduced-motion:reduce){*,::before,::after{animation:none!important;transition:none!important}}
`;

/** Gives a shadow root its look. @param {ShadowRoot} root @param {string} css */
function addStyle(root, css) {
  if ("adoptedStyleSheets" in root && "replaceSync" in CSSStyleSheet.prototype) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];
    return;
  }
  const style = document.createElement("style");
  if (NONCE) style.nonce = NONCE;
  style.textContent = css;
  root.append(style);
}

/** The shadow root of an element, with the look. @param {HTMLElement} host @param {string} [more] rules of its own */
export function shadowOf(host, more = "") {
  if (host.shadowRoot) return host.shadowRoot;
  const root = host.attachShadow({ mode: "open" });
  addStyle(root, CSS + more);
  return root;
}
