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

/** GET a page of the box as a document, parsed as any page is; no script of it runs. */
export function getPage(path) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.responseType = "document";
    request.onload = () => {
      if (request.status === 200 && request.response !== null) resolve(request.response);
      else reject(new ApiError(UNREACHABLE, request.status));
    };
    request.onerror = () => reject(new ApiError(UNREACHABLE, 0));
    request.send();
  });
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
