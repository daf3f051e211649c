/** What every event has beside the fields of its type. */
export interface EventBase {
  /** UUIDv7. */
  id: string;
  stream: "user" | "everyone" | "queue";
  /** The queue's id, if `stream` is `queue`. */
  queue?: string;
  /** Its place in the stream; an event without one is never replayed. */
  offset?: number;
  position?: string;
  /** When it was accepted: RFC 3339, UTC. */
  timestamp: string;
  /** The job it belongs to. */
  jobId?: string;
  /** It came too late for its purpose: take note of it, do not announce it. */
  expired?: true;
}

/** Any event; `type` says which. */
export type BelfryEvent = EventMap[keyof EventMap];

/** An event that this edge is too old to know. It keeps its place in the stream. */
export interface UnknownEvent extends Omit<EventBase, "id" | "timestamp"> {
  type: "unknown";
  id?: string;
  timestamp?: string;
}

export type ClientState = "disconnected" | "connecting" | "connected";
export type ReceiptState = "delivered" | "displayed" | "dismissed" | "read";
export type TokenCause = "connect" | "refresh" | "expired" | "rejected";

export interface StateDetail {
  state: ClientState;
  /** The close code, if there was one. */
  code?: number;
  reason?: string;
  /** The reason for people. */
  sentence?: string;
  /** When the next attempt begins, in milliseconds from now. */
  retryInMs?: number;
}

export interface ConnectedFrame {
  type: "connected";
  session: string;
  user: string;
  heartbeatMs: number;
  expiresInMs?: number;
  streams: Record<string, { position: string }>;
}

/** Events are gone for good: load again what the page shows of the stream. */
export interface GapFrame {
  type: "gap";
  stream: EventBase["stream"];
  queue?: string;
  reason: string;
  from?: number;
  to?: number;
  position: string;
}

export interface ErrorFrame {
  type: "error";
  code: string;
  message: string;
  field?: string;
  queue?: string;
  retryAfterMs?: number;
}

export interface ByeFrame {
  type: "bye";
  code: number;
  reason: string;
  message: string;
  reconnect: boolean;
  retryAfterMs?: number;
}

export interface PresenceUpdate {
  type: "presence";
  queue: string;
  snapshot: boolean;
  total: number;
  users: Array<{ user: string; online: boolean; generation: number }>;
}

/** What a handler receives, by the name it is registered for. */
export interface HandlerMap extends EventMap {
  "*": BelfryEvent;
  event: BelfryEvent;
  unknown: UnknownEvent;
  state: StateDetail;
  connected: ConnectedFrame;
  disconnected: StateDetail;
  error: ErrorFrame;
  gap: GapFrame;
  degraded: { type: "degraded"; since?: string };
  recovered: { type: "recovered" };
  bye: ByeFrame;
  subscribed: { type: "subscribed"; queue: string; position: string };
  unsubscribed: { type: "unsubscribed"; queue: string };
  refreshed: { type: "refreshed"; expiresAt: string; expiresInMs?: number };
  retract: { type: "retract"; id: string; reason: "read" | "dismissed" };
  presence: PresenceUpdate;
}

export interface ClientOptions {
  /** `wss://…/ws`. */
  url: string;
  /** A JWT, or where to get a fresh one for each connection. */
  token: string | ((cause: TokenCause) => Promise<string>);
  /** Followed from the start. */
  queues?: string[];
  /** Between two pings, in milliseconds. Default 30,000. */
  heartbeatInterval?: number;
  /** How long a pong may take, in milliseconds. Default 5,000. */
  pongTimeoutMs?: number;
  /** From opening to `connected`, in milliseconds. Default 35,000. */
  connectTimeoutMs?: number;
  /** Show a toast for each event. Default false. */
  toasts?: boolean | ToastNotificationSystem;
  /** Tabs that pass the same name share one connection: put the user into it. */
  share?: string;
  /** Keeps positions over a reload, for example `sessionStorage`. */
  storage?: Pick<Storage, "getItem" | "setItem">;
  /** Default `belfry.positions`; another one for each user. */
  storageKey?: string;
  /** Names this device in receipts: 1 to 64 printable ASCII characters. */
  device?: string;
  /** `false`: no receipts are sent. Default true. */
  receipts?: boolean;
}

/** Keeps one user connected to an edge. */
export declare class DashboardWebSocketClient {
  constructor(options: ClientOptions);
  readonly state: ClientState;
  /** The edge has no notifier for now; updates will follow. */
  readonly degraded: boolean;
  /** Receipts that were dropped because too many waited. */
  readonly droppedReceipts: number;
  /** Calls `handler` from now on; returns what removes it. Throws on an unknown name. */
  on<Name extends keyof HandlerMap>(type: Name, handler: (detail: HandlerMap[Name]) => unknown): () => void;
  /** The same, for the next time only. */
  once<Name extends keyof HandlerMap>(type: Name, handler: (detail: HandlerMap[Name]) => unknown): () => void;
  connect(): void;
  /** Tries again now instead of after the rest of the wait. */
  reconnect(): void;
  close(): void;
  subscribe(queue: string): void;
  unsubscribe(queue: string): void;
  watchPresence(queue: string): void;
  unwatchPresence(queue: string): void;
  presence(queue: string): { total: number; users: string[] } | undefined;
  receipt(id: string, state: ReceiptState): void;
  /** The position in `user`, `everyone` or `queue:<id>`. */
  position(stream: string): string | undefined;
}

export type ToastKind = "success" | "error" | "warning" | "info" | "progress";

export interface Toast {
  kind: ToastKind;
  title: string;
  text?: string;
  /** A later toast of the same job takes its place. */
  jobId?: string;
  /** So does a later one with the same key. */
  key?: string;
  /** 0 to 100, for `progress`. */
  percent?: number;
  /** Milliseconds; 0: until it is dismissed or replaced. Default 5,000. */
  stayMs?: number;
  /** The event that receipts are about. */
  eventId?: string;
  /** What a click on it does; without it a click dismisses. */
  open?: () => void;
}

/** An entry of the bell's list. */
export interface Notice {
  key: string;
  /** Unix milliseconds. */
  at: number;
  kind: ToastKind;
  title: string;
  text: string;
  unread: boolean;
}

export interface ToastOptions {
  /** Where the toasts are; by default the page's `<belfry-toasts>`, made if there is none. */
  container?: HTMLElement;
  /** How long a toast stays, in milliseconds. Default 5,000. */
  duration?: number;
  /** Receives what became of toasts with an `eventId`. */
  onReceipt?: (eventId: string, state: "displayed" | "dismissed" | "read") => void;
}

/** Toasts above the page: at most five, text only. */
export declare class ToastNotificationSystem {
  constructor(options?: ToastOptions);
  /** Everything that was shown, newest first: what the bell lists. */
  readonly notices: readonly Notice[];
  /** How many of them are unread. */
  readonly unread: number;
  /** Returns the toast's key, for `dismiss`. */
  show(toast: Toast): string;
  show(title: string, message?: string, type?: ToastKind, duration?: number): string;
  success(text: string, title?: string): string;
  error(text: string, title?: string): string;
  warning(text: string, title?: string): string;
  info(text: string, title?: string): string;
  progress(jobId: string, percent: number | undefined, text?: string, title?: string): string;
  shows(key: string): boolean;
  dismiss(key: string): void;
  /** Takes away the toast of an event that was acknowledged elsewhere. */
  retract(eventId: string): void;
  /** Marks entries of the list as read; all of them without `keys`. */
  markRead(keys?: Iterable<string>): void;
  /** Calls `listener` whenever the list changes; returns what removes it. */
  onNotices(listener: () => void): () => void;
}

export type JobPhase = "running" | "done" | "failed" | "stalled";

/** What is known of each job: which event is final, and whether one comes too late. */
export declare class Jobs {
  /** `false`: the event must change nothing on the screen. */
  take(event: BelfryEvent): boolean;
  get(jobId: string | null | undefined): { phase: JobPhase; percent?: number; stage?: string } | undefined;
  /** For `restore`, by the next page of the same user. */
  save(): string;
  restore(saved: string | null): void;
}

/** Shows a toast in the page's toasts. */
export declare function showToast(title: string, message?: string, type?: ToastKind, duration?: number): string;

export interface DashboardConfig {
  user?: string;
  /** Where the page gets its tokens: `POST` with `{"user"}`, answered with `{"token"}`. */
  tokenUrl?: string;
  /** Instead of `tokenUrl`. */
  token?: (cause: TokenCause) => Promise<string>;
  /** Default: `/ws` beside the folder that the scripts came from. */
  wsUrl?: string;
  queues?: string[];
  heartbeatInterval?: number;
  /** `false`: no toasts. */
  toasts?: boolean;
}

/** What `dashboard-websocket-init.js` does: connects, shows toasts, keeps sections, counts and status. */
export declare function startDashboard(config?: DashboardConfig): DashboardWebSocketClient | null;

/** The client that the auto-start made. */
export declare function getDashboardWebSocket(): DashboardWebSocketClient | null;

declare global {
  interface Window {
    BelfryConfig?: DashboardConfig;
    currentUserId?: string;
    showToast: typeof showToast;
    getDashboardWebSocket: typeof getDashboardWebSocket;
  }
}
