const shown = document.getElementById("state");
const source = new EventSource("/events");
source.onmessage = (event) => { shown.textContent = JSON.stringify(JSON.parse(event.data).state, null, 1); };
