// The stream of snapshots: all tabs of a browser share one, or each has its own where they cannot.

const SHARED = "/static/stream/worker.js";

// `on.snapshot(object)`; `on.lost(isClosed)`: the stream broke, and nobody tries again if it is closed.
export class Stream {
  #on;
  #symbol = "";
  #port = null;
  #source = null;
  #canShare = typeof SharedWorker === "function";
  isClosed = false;

  constructor(on) {
    this.#on = on;
    // A browser does not keep a page with such a listener after it was left.  With the page it would keep the
    // worker, and stop it perhaps before it hears that the page was left: then its stream would stay open.
    if (this.#canShare) addEventListener("unload", () => {});
  }

  // Begin, or begin again, with everything there is.
  connect(symbol) {
    this.close();
    this.#symbol = symbol;
    if (this.#canShare) this.#share();
    else this.#openOwn();
  }

  close() {
    this.#source?.close();
    this.#port?.postMessage({ op: "close" });
    this.#port?.close();
    this.#source = this.#port = null;
    this.isClosed = false;
  }

  #take(snapshot) {
    this.isClosed = false;
    this.#on.snapshot(snapshot);
  }

  #lose(isClosed) {
    this.isClosed = isClosed;
    this.#on.lost(isClosed);
  }

  #share() {
    try {
      const worker = new SharedWorker(SHARED, { name: "stream" });
      worker.addEventListener("error", () => this.#stopSharing());
      const port = (this.#port = worker.port);
      port.addEventListener("message", ({ data }) => {
        if (port !== this.#port) return;
        if (data.full) this.#stopSharing();
        else if (data.snapshot) {
          port.postMessage({ op: "read" });
          this.#take(data.snapshot);
        } else this.#lose(data.isClosed);
      });
      port.start();
      port.postMessage({ op: "open", symbol: this.#symbol });
    } catch {
      this.#stopSharing();
    }
  }

  #stopSharing() {
    this.#canShare = false;
    this.connect(this.#symbol);
  }

  #openOwn() {
    const symbol = this.#symbol;
    const source = (this.#source = new EventSource(symbol ? `/events?symbol=${encodeURIComponent(symbol)}` : "/events"));
    source.addEventListener("message", (event) => this.#take(JSON.parse(event.data)));
    source.addEventListener("error", () => this.#lose(source.readyState === EventSource.CLOSED));
  }
}
