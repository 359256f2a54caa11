-- The writer's queries: what the engine asks, then what its changes write.

-- name: last_seq
SELECT max(
    coalesce((SELECT max(seq) FROM occurrence), 0), coalesce((SELECT max(seq) FROM job), 0),
    coalesce((SELECT max(seq) FROM moment), 0), coalesce((SELECT max(seq) FROM definition), 0),
    coalesce((SELECT max(seq) FROM reset), 0));

-- name: last_time
SELECT max(
    coalesce((SELECT received FROM occurrence ORDER BY seq DESC LIMIT 1), 0),
    coalesce((SELECT time FROM job ORDER BY seq DESC LIMIT 1), 0),
    coalesce((SELECT time FROM moment ORDER BY seq DESC LIMIT 1), 0),
    coalesce((SELECT time FROM definition ORDER BY seq DESC LIMIT 1), 0),
    coalesce((SELECT time FROM reset ORDER BY seq DESC LIMIT 1), 0));

-- name: has_reset
SELECT EXISTS (SELECT 1 FROM reset);

-- name: newest_reset
SELECT max(
    coalesce((SELECT max(seq) FROM reset WHERE key IS NULL AND namespace IS NULL), 0),
    coalesce((SELECT max(seq) FROM reset WHERE key IS NULL AND namespace = ?1), 0),
    coalesce((SELECT max(seq) FROM reset WHERE key = ?2 AND namespace IS NULL), 0),
    coalesce((SELECT max(seq) FROM reset WHERE key = ?2 AND namespace = ?1), 0));

-- name: accepted
SELECT seq, digest, key FROM occurrence WHERE source = ? AND id = ?;

-- name: reset_accepted
SELECT seq, digest FROM reset WHERE source = ? AND id = ?;

-- name: definition
SELECT version, document FROM definition WHERE kind = ? AND name = ? AND newest = 1;

-- name: definition_version
SELECT document FROM definition WHERE kind = ? AND name = ? AND version = ?;

-- name: names
SELECT name FROM definition WHERE kind = ? AND newest = 1 AND document IS NOT NULL LIMIT 20000;

-- name: mentioned
SELECT EXISTS (SELECT 1 FROM member WHERE event = ?1)
    OR (EXISTS (SELECT 1 FROM listener WHERE heard = ?1)
        AND NOT EXISTS (SELECT 1 FROM member WHERE event_set = ?1));

-- name: sets_with
SELECT event_set, place FROM member WHERE event = ? ORDER BY event_set;

-- name: listeners
SELECT rule FROM listener WHERE heard = ? ORDER BY rule;

-- name: standing
SELECT seq, forced FROM standing WHERE key = ? AND event = ?;

-- name: joined
SELECT version, bits FROM joined WHERE key = ? AND event_set = ?;

-- name: members
SELECT member.place, standing.seq, standing.forced
FROM member JOIN standing ON standing.key = ?2 AND standing.event = member.event
WHERE member.event_set = ?1;

-- name: firing_state
SELECT generation, fired, open, counted FROM firing_state WHERE rule = ? AND key = ?;

-- name: chain_length
SELECT length FROM chain WHERE root = ?;

-- name: job
SELECT seq, id, rule, rule_version, triggering_version, key, generation, forced, root, depth,
    state, attempt, failures, crashes, due, dispatcher, since, accepted, stopping
FROM job WHERE id = ?;

-- name: active_jobs
SELECT seq, id, rule, rule_version, triggering_version, key, generation, forced, root, depth,
    state, attempt, failures, crashes, due, dispatcher, since, accepted, stopping
FROM job INDEXED BY job_active WHERE state IN ('dispatched', 'running') ORDER BY seq;

-- name: active_jobs_of
SELECT seq, id, rule, rule_version, triggering_version, key, generation, forced, root, depth,
    state, attempt, failures, crashes, due, dispatcher, since, accepted, stopping
FROM job INDEXED BY job_active
WHERE state IN ('dispatched', 'running') AND dispatcher = ? ORDER BY seq;

-- name: waiting_jobs
SELECT seq, id, rule, rule_version, triggering_version, key, generation, forced, root, depth,
    state, attempt, failures, crashes, due, dispatcher, since, accepted, stopping
FROM job
WHERE state = 'triggered' AND executor = ? AND due <= ? AND cores <= ? AND memory <= ?
    AND rule NOT IN (SELECT rule FROM paused)
ORDER BY due, seq LIMIT ?;

-- name: next_due
SELECT min(due) FROM job WHERE state = 'triggered' AND due > ?;

-- name: jobs_under
SELECT id FROM job
WHERE state = 'triggered' AND (?1 IS NULL OR key = ?1)
    AND (?2 IS NULL OR rule = ?2 OR substr(rule, 1, length(?2) + 1) = ?2 || ':')
UNION ALL SELECT id FROM job
WHERE state IN ('dispatched', 'running') AND (?1 IS NULL OR key = ?1)
    AND (?2 IS NULL OR rule = ?2 OR substr(rule, 1, length(?2) + 1) = ?2 || ':');

-- name: job_members
SELECT event_set, event_set_version, members FROM job WHERE id = ?;

-- name: member_occurrences
SELECT o.event, o.key, o.seq, o.source, o.id, o.received, o.force, o.data
FROM json_each(?) AS m JOIN occurrence AS o ON o.seq = m.value ORDER BY m.key;

-- name: worker_triggered
SELECT seq FROM occurrence WHERE job = ? AND event = ? AND key = ? AND by_worker = 1;

-- name: attempt_outcome
SELECT outcome FROM attempt WHERE job = ? AND attempt = ?;

-- name: add_occurrence
INSERT INTO occurrence (seq, event, key, source, id, digest, time, received, data, force, job,
    fired, root, depth, by_worker, verdicts, whole, problem)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: lengthen_chain
INSERT INTO chain (root, length) VALUES (?, 1)
ON CONFLICT (root) DO UPDATE SET length = length + 1;

-- name: stand
INSERT INTO standing (key, event, seq, forced) VALUES (?, ?, ?, ?)
ON CONFLICT (key, event) DO UPDATE SET seq = excluded.seq, forced = excluded.forced;

-- name: join
INSERT INTO joined (key, event_set, version, bits) VALUES (?, ?, ?, ?)
ON CONFLICT (key, event_set) DO UPDATE SET version = excluded.version, bits = excluded.bits;

-- name: set_firing_state
INSERT INTO firing_state (rule, key, generation, fired, open, counted) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (rule, key) DO UPDATE SET generation = excluded.generation, fired = excluded.fired,
    open = excluded.open, counted = excluded.counted;

-- name: add_job
INSERT INTO job (seq, id, time, rule, rule_version, event_set, event_set_version,
    triggering_version, key, generation, forced, members, root, depth, retried, executor, cores,
    memory, state, due, finished)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: move_job
UPDATE job SET state = ?, attempt = ?, failures = ?, crashes = ?, due = ?, dispatcher = ?,
    since = ?, accepted = ?, stopping = ?, finished = ?, output = ?
WHERE id = ? AND state = ? AND attempt = ?;

-- name: see_attempt
UPDATE job SET accepted = ?, stopping = ? WHERE id = ? AND dispatcher = ?;

-- name: add_attempt
INSERT INTO attempt (job, attempt, dispatcher, executor, dispatched) VALUES (?, ?, ?, ?, ?);

-- name: start_attempt
UPDATE attempt SET started = ? WHERE job = ? AND attempt = ? AND finished IS NULL;

-- name: end_attempt
UPDATE attempt SET started = coalesce(?, started), finished = ?, outcome = ?, exit_code = ?,
    reason = ?, late = ?
WHERE job = ? AND attempt = ? AND (outcome IS NULL OR (outcome IN ('lost', 'unknown') AND late = 0));

-- name: add_moment
INSERT INTO moment (seq, time, kind, rule, job, key, state, attempt, outcome, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: retire_definition
UPDATE definition SET newest = 0 WHERE kind = ? AND name = ? AND newest = 1;

-- name: add_definition
INSERT INTO definition (kind, name, version, seq, time, document, newest)
VALUES (?, ?, ?, ?, ?, ?, 1);

-- name: drop_members
DELETE FROM member WHERE event_set = ?;

-- name: add_member
INSERT INTO member (event, event_set, place) VALUES (?, ?, ?);

-- name: drop_listener
DELETE FROM listener WHERE rule = ?;

-- name: add_listener
INSERT INTO listener (heard, rule) VALUES (?, ?);

-- name: pause
INSERT INTO paused (rule) VALUES (?) ON CONFLICT DO NOTHING;

-- name: resume
DELETE FROM paused WHERE rule = ?;

-- name: add_reset
INSERT INTO reset (seq, time, key, namespace, source, id, digest) VALUES (?, ?, ?, ?, ?, ?, ?);

-- A rule opens again where the reset clears a member: of its set as it is now, or of the set that
-- fired it last, for rule and set may be deleted now and come back.
-- name: open_rules
UPDATE firing_state SET open = 1
WHERE open = 0 AND (?1 IS NULL OR key = ?1) AND (EXISTS (
    SELECT 1 FROM listener
    LEFT JOIN member ON member.event_set = listener.heard
    JOIN standing ON standing.key = firing_state.key
        AND standing.event = coalesce(member.event, listener.heard)
    WHERE listener.rule = firing_state.rule AND (?2 IS NULL OR standing.event = ?2
        OR substr(standing.event, 1, length(?2) + 1) = ?2 || ':'))
OR EXISTS (
    SELECT 1 FROM job, json_each(job.members) AS fired_by
    JOIN occurrence ON occurrence.seq = fired_by.value
    JOIN standing ON standing.key = firing_state.key AND standing.event = occurrence.event
    WHERE job.seq = firing_state.fired AND (?2 IS NULL OR standing.event = ?2
        OR substr(standing.event, 1, length(?2) + 1) = ?2 || ':')));

-- name: clear_standing
DELETE FROM standing
WHERE (?1 IS NULL OR key = ?1)
    AND (?2 IS NULL OR event = ?2 OR substr(event, 1, length(?2) + 1) = ?2 || ':');

-- name: clear_joined
DELETE FROM joined WHERE ?1 IS NULL OR key = ?1;

-- name: clear_states
UPDATE instance SET states_from = ?;

-- name: know_dispatcher
INSERT INTO dispatcher (name, hello, time) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET hello = excluded.hello, time = excluded.time;

-- name: instance
SELECT id FROM instance;
