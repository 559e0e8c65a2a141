// Posts what needs the PIN typed just now: where the box asks for it, the page asks, and posts again.

import { post } from "./api.js";
import { askPin } from "./pin_pad.js";

/** As `post`; resolves with undefined when the PIN was not given. */
export async function postFresh(path, body = {}) {
  try {
    return await post(path, body);
  } catch (error) {
    if (!error.answer?.pin) throw error;
  }
  return (await confirmPin()) ? post(path, body) : undefined;
}

async function confirmPin() {
  let sentence = "So that nobody else does this at your screen.";
  for (;;) {
    const pin = await askPin("Your own PIN, once more", sentence);
    if (pin === null) return false;
    try {
      await post("/api/pin", { pin });
      return true;
    } catch (error) {
      if (error.status === 401) throw error;
      const wait = error.answer?.wait_s;
      sentence = wait ? `${error.message} Wait ${Math.ceil(wait)} s.` : error.message;
    }
  }
}
