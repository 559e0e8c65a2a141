// Takes the code out of the address, where the camera put it, into the form; it stays in no history.
const code = location.hash.slice(1);
document.querySelector("input[name=token]").value = code;
history.replaceState(null, "", location.pathname);
if (!code) {
  document.querySelector("#no-code").hidden = false;
  document.querySelector("form").hidden = true;
}
