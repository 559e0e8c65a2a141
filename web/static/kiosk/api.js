// Talks JSON to the box. An error is always one sentence that can be shown.

const UNREACHABLE = "The box does not answer. It may be starting again.";

/** What the box refused, in its own words. */
export class ApiError extends Error {
  constructor(sentence, status, answer = null) {
    super(sentence);
    this.status = status;
    this.answer = answer;
  }
}

/** The CSRF token of this page. */
export function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]').content;
}

/** POST a JSON body; return the JSON answer, or null where there is none. */
export async function post(path, body = {}) {
  return answerOf(
    await reach(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrfToken() },
      body: JSON.stringify(body),
    }),
  );
}

/** GET a JSON answer. */
export async function get(path, signal) {
  return answerOf(await reach(path, { signal, cache: "no-store" }));
}

/** Wait. */
export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function reach(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE, 0);
  }
}

async function answerOf(response) {
  if (response.status === 204) return null;
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    throw new ApiError(UNREACHABLE, response.status);
  }
  if (!response.ok) throw new ApiError(answer?.error ?? UNREACHABLE, response.status, answer);
  return answer;
}
