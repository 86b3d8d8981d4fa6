// Shows an operator's token once; the answer is a cookie that no script can read.

import { $, command, text } from "../dom.js";

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  text($("said"), "");
  const answer = await command("/login", { token: $("token").value });
  if (answer.ok) location.assign("/");
  else { text($("said"), answer.msg); $("token").select(); }
});
