// The plain monitor: reads /v1, and reads again when the feed says that something happened.
// Everything reaches the page as text: names, keys and reasons are other people's words.

const SHOWN = 50;
const states = [];
let wanted = true;
let reading = false;

async function read(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function cell(content, kind) {
  const made = document.createElement("td");
  if (content instanceof Node) made.append(content);
  else made.textContent = content ?? "";
  if (kind) made.className = kind;
  return made;
}

function fill(id, rows) {
  const body = document.querySelector(`#${id} tbody`);
  const made = rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((one) => (one instanceof Node ? one : cell(one))));
    return row;
  });
  if (!made.length) {
    const row = document.createElement("tr");
    const nothing = cell("nothing yet", "empty");
    nothing.colSpan = 7;
    row.append(nothing);
    made.push(row);
  }
  body.replaceChildren(...made);
}

function link(text, path) {
  const made = document.createElement("a");
  made.textContent = text;
  made.href = path;
  return made;
}

const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
const state = (word) => cell(word, word);

function showJobs(jobs) {
  fill("jobs", jobs.map((job) => [
    cell(link(job.id, `/v1/jobs/${job.id}`)), job.rule, job.key, state(job.state), job.attempt,
    cell(job.attempt ? link("log", `/v1/jobs/${job.id}/logs`) : ""), time(job.finished ?? job.time),
  ]));
  const latest = new Map();
  for (const job of jobs) {
    const name = JSON.stringify([job.rule, job.key]);
    if (!latest.has(name)) latest.set(name, job);
  }
  const sorted = [...latest.values()].sort((a, b) => a.rule.localeCompare(b.rule));
  fill("latest", sorted.map((job) => [
    job.rule, job.key, state(job.state), cell(link(job.id, `/v1/jobs/${job.id}`)),
    time(job.finished ?? job.time),
  ]));
}

function showEvents(occurrences) {
  const became = (one) => one.whole || (one.routed
    ? one.verdicts.map((verdict) => `${verdict.rule}: ${verdict.verdict}`).join(", ") : "unrouted");
  fill("events", occurrences.map((one) => [
    cell(link(one.seq, `/v1/occurrences/${one.seq}`)), one.event, one.key, one.force, became(one),
    time(one.received),
  ]));
}

function showRules(definitions) {
  const sets = new Map(definitions.filter((one) => one.kind === "event_set")
    .map((one) => [one.name, one.document]));
  const rules = definitions.filter((one) => one.kind === "rule");
  fill("rules", rules.map((one) => {
    const [on, rule] = Object.entries(one.document)[0];
    const { activity } = rule;
    const members = sets.has(on) ? JSON.stringify(sets.get(on)) : on;
    const what = activity.task_type
      ? `${activity.task_type} ${activity.image ?? ""} ${activity.cmd ?? ""}` : activity.cmd;
    return [one.name, on, members, what, rule.triggering, rule.attempts ?? 1];
  }));
}

function showDispatchers(dispatchers) {
  fill("dispatchers", dispatchers.map((one) => [
    `${one.name} on ${one.host}`, state(one.connected ? "there" : "away"),
    one.offers.map((offer) => offer.problem ? `${offer.executor}: ${offer.problem}` : offer.executor)
      .join(", "),
    `${one.running.length} of ${one.slots}`,
    one.running.map((job) => `${job.rule} ${job.key} (${job.state})`).join(", "),
  ]));
}

async function show() {
  const [status, jobs, occurrences, definitions, dispatchers] = await Promise.all([
    read("/v1/status"), read(`/v1/jobs?limit=${SHOWN}`), read(`/v1/occurrences?limit=${SHOWN}`),
    read("/v1/definitions?limit=1000"), read("/v1/dispatchers"),
  ]);
  const { counts } = status;
  const ended = `${counts.jobs.succeeded} succeeded, ${counts.jobs.failed} failed`;
  const open = `${counts.jobs.triggered} waiting, ${counts.jobs.running} running`;
  document.getElementById("summary").textContent =
    `${status.version} · ${counts.definitions.rule} rules · ${counts.occurrences} occurrences · `
    + `jobs: ${open}, ${ended}` + (status.paused.length ? ` · paused: ${status.paused}` : "");
  showJobs(jobs.items);
  showEvents(occurrences.items);
  showRules(definitions.items);
  showDispatchers(dispatchers.items);
  fill("states", states.map((one) => [one.seq, one.rule, one.key, state(one.state), time(one.time)]));
}

async function refresh() {
  wanted = true;
  if (reading) return;
  reading = true;
  while (wanted) {
    wanted = false;
    try {
      await show();
    } catch (error) {
      document.getElementById("summary").textContent = `Cirrus does not answer: ${error.message}`;
    }
    await new Promise((done) => setTimeout(done, 500));
  }
  reading = false;
}

function remember(kind, message) {
  const one = JSON.parse(message.data);
  states.unshift({ ...one, state: kind === "firing" ? "triggered" : one.state });
  states.length = Math.min(states.length, SHOWN);
}

async function follow() {
  const { last_seq: last } = await read("/v1/status");
  const feed = new EventSource(`/v1/feed?after=${Math.max(0, last - 200)}`);
  for (const kind of ["firing", "move", "note", "pause"]) {
    feed.addEventListener(kind, (message) => { remember(kind, message); refresh(); });
  }
  for (const kind of ["occurrence", "definition", "reset", "resync"]) {
    feed.addEventListener(kind, refresh);
  }
  feed.addEventListener("error", refresh);
}

refresh();
follow().catch(() => setTimeout(() => location.reload(), 5000));
setInterval(refresh, 10000);
