// The assessment screen: starts the assessment by itself, shows it as it is written, takes questions.

import { post, pause } from "./api.js";
import { Questions } from "./ask.js";
import { follow } from "./job.js";
import { ModelBox } from "./model_box.js";
import { boxState } from "./state.js";
import { showPanel } from "./views.js";

const UNREACHABLE_RETRY_MS = 2000;

const { capture: captureId, answers: earlier } = document.getElementById("model").dataset;
const capturePath = `/api/captures/${encodeURIComponent(captureId)}`;
const cancel = document.getElementById("cancel");
const again = document.getElementById("again");
const box = new ModelBox();
const questions = new Questions((question) => ask(question));
let jobId = null;
let retry = () => assess(true);

/** Run one job from its request to its end. */
async function run(answer, path, body) {
  questions.enable(false);
  again.hidden = true;
  box.progress("queued", "Starting…");
  try {
    ({ job_id: jobId } = await request(path, body));
  } catch (error) {
    finish(answer, "failed", error.message);
    return;
  }
  cancel.hidden = false;
  cancel.disabled = false;
  follow(jobId, {
    state({ state, words, seconds_left: secondsLeft }) {
      answer.setWriting(state === "running");
      box.progress(state, words, secondsLeft);
    },
    finding: (finding) => answer.finding(finding),
    text: (text) => answer.text(text),
    reset: () => answer.reset(),
    end: (state, words) => finish(answer, state, words),
  });
}

/** POST, and try again for as long as nobody is there to answer. */
async function request(path, body) {
  for (;;) {
    try {
      return await post(path, body);
    } catch (error) {
      if (error.status !== 0) throw error;
      box.progress("waiting", "The box does not answer. Trying again…");
      await pause(UNREACHABLE_RETRY_MS);
    }
  }
}

function finish(answer, state, words) {
  jobId = null;
  answer.end(state);
  box.progress(state, words);
  const hadFocus = document.activeElement === cancel;
  cancel.hidden = true;
  again.hidden = state === "done";
  if (hadFocus && !again.hidden) again.focus();
  questions.enable(true);
}

function assess(isAgain) {
  retry = () => assess(true);
  return run(box.openAssessment(), `${capturePath}/assessment`, { again: isAgain });
}

function ask(question) {
  showPanel("model");
  const answer = box.openQuestion(question);
  retry = () => {
    answer.root.remove();
    ask(question);
  };
  return run(answer, `${capturePath}/questions`, { question });
}

cancel.addEventListener("click", async () => {
  if (jobId === null) return;
  cancel.disabled = true;
  try {
    await post(`/api/jobs/${encodeURIComponent(jobId)}/cancel`);
  } catch (error) {
    cancel.disabled = false;
    box.progress("running", error.message);
  }
});
again.addEventListener("click", () => retry());

// The warning stays once it has been given: an engine that is off warns no longer, its words still stand.
boxState.addEventListener("change", ({ detail }) => {
  const warning = detail?.model.warning;
  if (!warning) return;
  const element = document.getElementById("warning");
  element.hidden = false;
  if (element.textContent !== warning) element.textContent = warning;
});

/** Show an answer that was asked for before the page was loaded again. */
function restore({ job_id: earlierId, question }) {
  const answer = box.openQuestion(question);
  follow(earlierId, {
    state: ({ state }) => answer.setWriting(state === "running"),
    finding: (finding) => answer.finding(finding),
    text: (text) => answer.text(text),
    reset: () => answer.reset(),
    end: (state) => answer.end(state),
  });
}

assess(false);
JSON.parse(earlier).forEach(restore);
