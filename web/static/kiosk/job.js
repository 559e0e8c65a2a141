// Follows one job of the model over server-sent events; the browser takes a broken stream up where it broke.

const LOST = "The answer was lost: the box started again.";
const BROKEN = "The box does not answer. Trying again…";

/**
 * Follow a job until its end.
 *
 * `listener` has `state(state)`, `finding(finding)`, `text(text)`, `reset()` and `end(state, words)`; `end` comes once.
 * Returns a function that stops listening.
 */
export function follow(jobId, listener) {
  const source = new EventSource(`/api/jobs/${encodeURIComponent(jobId)}/events`);
  const on = (name, act) => source.addEventListener(name, (event) => act(JSON.parse(event.data)));

  on("state", (state) => listener.state(state));
  on("finding", (finding) => listener.finding(finding));
  on("text", ({ text }) => listener.text(text));
  on("reset", () => listener.reset());
  on("end", ({ state, words }) => {
    source.close();
    listener.end(state, words);
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      // The box no longer knows the job, so nobody can finish or vouch for what it wrote.
      listener.reset();
      listener.end("failed", LOST);
    } else {
      listener.state({ state: "waiting", words: BROKEN, before: null, seconds_left: null });
    }
  };
  addEventListener("pagehide", () => source.close(), { once: true });
  return () => source.close();
}
