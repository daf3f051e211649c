// The look of status and bell, beside that of the toasts: what is in the line of a page
// has the page's own colour, whatever theme the system wants.

export const BELL_CSS = `
.bell{align-items:center;border-radius:99px;display:inline-flex;height:40px;justify-content:center;position:relative;width:40px}
.bell:hover{background:color-mix(in srgb,currentColor 12%,transparent)}
svg{fill:none;height:22px;stroke:currentColor;stroke-linecap:round;stroke-linejoin:round;stroke-width:1.8;width:22px}
.count{background:#b3261e;border-radius:99px;color:#fff;font:600 11px/18px system-ui,sans-serif;inset-block-start:0;inset-inline-end:0;min-width:18px;padding:0 5px;position:absolute;text-align:center}
.panel{background:var(--_bg);border:1px solid var(--_line);border-radius:var(--_radius);box-shadow:var(--_shadow);color:var(--_fg);inset-block-start:calc(100% + 6px);inset-inline-end:0;max-height:min(460px,70vh);overflow-y:auto;position:absolute;width:min(340px,calc(100vw - 24px));z-index:1}
.wrap{display:inline-block;position:relative}
.panel p{color:var(--_soft);margin:0;padding:20px 16px}
.notice{border-inline-start:3px solid var(--_c);display:grid;gap:1px;overflow-wrap:anywhere;padding:9px 14px}
.notice+.notice{border-block-start:1px solid var(--_line)}
.notice[data-unread] b::after{color:var(--_c);content:" ●";font-size:.7em}
.notice span,.notice time{color:var(--_soft);font-size:.9em}
@media (width<560px){.panel{inset-inline-end:8px;inset-block-start:56px;position:fixed}}
`;
