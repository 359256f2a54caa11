-- The readers' queries. `/*narrowed*/` is where questions add conditions on whole columns.

-- name: instance
SELECT id FROM instance;

-- name: states_from
SELECT coalesce(max(states_from), 0) FROM instance;

-- name: last_seq
SELECT max(
    coalesce((SELECT max(seq) FROM occurrence), 0), coalesce((SELECT max(seq) FROM job), 0),
    coalesce((SELECT max(seq) FROM moment), 0), coalesce((SELECT max(seq) FROM definition), 0),
    coalesce((SELECT max(seq) FROM reset), 0));

-- name: storage
SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size();

-- name: count_definitions
SELECT kind, count(*) FROM definition WHERE newest = 1 AND document IS NOT NULL GROUP BY kind;

-- name: count_occurrences
SELECT count(*), coalesce(max(seq), 0) FROM occurrence WHERE seq > :after;

-- name: count_jobs
SELECT count(*), coalesce(max(seq), 0) FROM job WHERE seq > :after;

-- name: count_jobs_not_succeeded
SELECT state, count(*) FROM job WHERE state <> 'succeeded' GROUP BY state;

-- name: count_jobs_of_key
SELECT state, count(*) FROM job WHERE key = :key AND key <> '' GROUP BY state;

-- name: count_jobs_of_empty_key
SELECT state, count(*) FROM job WHERE key = '' GROUP BY state;

-- name: paused
SELECT rule FROM paused WHERE rule = :rule;

-- name: paused_rules
SELECT rule FROM paused ORDER BY rule LIMIT :limit;

-- Definitions -----------------------------------------------------------------------------------

-- name: definition
SELECT kind, name, version, seq, time, document FROM definition
WHERE kind = :kind AND name = :name AND newest = 1;

-- name: definition_version
SELECT kind, name, version, seq, time, document FROM definition
WHERE kind = :kind AND name = :name AND version = :version;

-- name: definitions
SELECT kind, name, version, seq, time, document FROM definition
WHERE newest = 1 AND document IS NOT NULL AND (kind, name) > (:kind, :name) /*narrowed*/
ORDER BY kind, name LIMIT :limit;

-- name: definition_names
SELECT name FROM definition WHERE kind = :kind AND newest = 1 AND document IS NOT NULL;

-- Occurrences -----------------------------------------------------------------------------------

-- name: occurrences_newest
SELECT seq, event, key, source, id, time, received, force, job, root, depth, by_worker, verdicts,
    whole, problem, data
FROM occurrence WHERE seq > :after AND seq < :before /*narrowed*/ ORDER BY seq DESC LIMIT :limit;

-- name: occurrences_oldest
SELECT seq, event, key, source, id, time, received, force, job, root, depth, by_worker, verdicts,
    whole, problem, data
FROM occurrence WHERE seq > :after AND seq < :before /*narrowed*/ ORDER BY seq LIMIT :limit;

-- name: occurrence
SELECT seq, event, key, source, id, time, received, force, job, root, depth, by_worker, verdicts,
    whole, problem, data
FROM occurrence WHERE seq = :seq;

-- name: triggered_by_worker
SELECT seq, event, key, source, id, time, received, force, job, root, depth, by_worker, verdicts,
    whole, problem, data
FROM occurrence WHERE job = :job AND by_worker = 1 ORDER BY seq LIMIT :limit;

-- The transaction that ended a job also holds what the job caused: it follows soon after.
-- name: triggered_at_end
SELECT seq, event, key, source, id, time, received, force, job, root, depth, by_worker, verdicts,
    whole, problem, data
FROM occurrence
WHERE seq > :after AND seq <= :after + 200000 AND job = :job AND by_worker = 0
ORDER BY seq LIMIT :limit;

-- Keys ------------------------------------------------------------------------------------------

-- Each step of the recursion looks the next key up in the index, however many occurrences it has.
-- name: keys
WITH RECURSIVE found (key) AS (
    SELECT * FROM (
        SELECT key FROM occurrence WHERE key > :after AND key >= :prefix AND key <> ''
        ORDER BY key LIMIT 1)
    UNION ALL
    SELECT (
        SELECT occurrence.key FROM occurrence
        WHERE occurrence.key > found.key AND occurrence.key <> '' ORDER BY occurrence.key LIMIT 1)
    FROM found WHERE found.key IS NOT NULL LIMIT :limit)
SELECT found.key,
    (SELECT count(*) FROM standing WHERE standing.key = found.key),
    (SELECT max(seq) FROM occurrence WHERE occurrence.key = found.key AND occurrence.key <> '')
FROM found WHERE found.key IS NOT NULL;

-- name: empty_key
SELECT count(*), coalesce(max(seq), 0) FROM standing WHERE key = '';

-- name: key_is_known
SELECT EXISTS (SELECT 1 FROM occurrence WHERE key = :key AND key <> '');

-- name: standing
SELECT event, seq, forced FROM standing WHERE key = :key ORDER BY event LIMIT :limit;

-- A set hides an event of its name, so that a rule on that name hears the set alone.
-- name: heard_sets
SELECT DISTINCT member.event_set FROM standing
JOIN member ON member.event = standing.event
WHERE standing.key = :key
    AND EXISTS (SELECT 1 FROM listener WHERE listener.heard = member.event_set)
UNION
SELECT standing.event FROM standing
WHERE standing.key = :key
    AND EXISTS (SELECT 1 FROM listener WHERE listener.heard = standing.event)
    AND NOT EXISTS (SELECT 1 FROM member WHERE member.event_set = standing.event)
ORDER BY 1 LIMIT :limit;

-- name: open_rules
SELECT listener.rule FROM listener
LEFT JOIN firing_state ON firing_state.rule = listener.rule AND firing_state.key = :key
WHERE listener.heard = :event_set AND coalesce(firing_state.open, 1) = 1
ORDER BY listener.rule LIMIT :limit;

-- name: members
SELECT member.event, coalesce(standing.seq, 0) FROM member
LEFT JOIN standing ON standing.key = :key AND standing.event = member.event
WHERE member.event_set = :event_set ORDER BY member.place;

-- Firings, jobs, attempts -----------------------------------------------------------------------

-- name: firings
SELECT seq, time, rule, key, generation, id, event_set, forced, members, retried
FROM job WHERE seq < :before /*narrowed*/ ORDER BY seq DESC LIMIT :limit;

-- name: firings_after
SELECT seq, time, rule, key, generation, id, event_set, forced, members, retried
FROM job WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: jobs
SELECT id, seq, time, rule, rule_version, event_set, event_set_version, key, generation, forced,
    members, root, depth, retried, executor, cores, memory, state, attempt, failures, crashes, due,
    dispatcher, since, stopping, finished
FROM job WHERE seq < :before /*narrowed*/ ORDER BY seq DESC LIMIT :limit;

-- name: job
SELECT id, seq, time, rule, rule_version, event_set, event_set_version, key, generation, forced,
    members, root, depth, retried, executor, cores, memory, state, attempt, failures, crashes, due,
    dispatcher, since, stopping, finished
FROM job WHERE id = :job;

-- name: job_output
SELECT output FROM job WHERE id = :job;

-- name: job_triggering
SELECT triggering_version FROM job WHERE id = :job;

-- name: active_jobs
SELECT id, seq, time, rule, rule_version, event_set, event_set_version, key, generation, forced,
    members, root, depth, retried, executor, cores, memory, state, attempt, failures, crashes, due,
    dispatcher, since, stopping, finished
FROM job WHERE state IN ('dispatched', 'running') ORDER BY dispatcher, seq LIMIT :limit;

-- name: attempts
SELECT attempt, dispatcher, executor, dispatched, started, finished, outcome, exit_code, reason,
    late
FROM attempt WHERE job = :job ORDER BY attempt;

-- name: dispatcher_of
SELECT dispatcher FROM attempt WHERE job = :job AND attempt = :attempt;

-- name: moments_of_job
SELECT seq, time, kind, rule, job, key, state, attempt, outcome, reason
FROM moment WHERE job = :job AND job <> '' ORDER BY seq LIMIT :limit;

-- name: dispatchers
SELECT name, time, hello FROM dispatcher ORDER BY name;

-- History, in the order of `seq` ----------------------------------------------------------------

-- name: moments_after
SELECT seq, time, kind, rule, job, key, state, attempt, outcome, reason
FROM moment WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: definitions_after
SELECT kind, name, version, seq, time, document
FROM definition WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: resets_after
SELECT seq, time, key, namespace, source, id
FROM reset WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: occurrences_after
SELECT seq, event, key, source, id, time, received, force, job, root, depth, by_worker, verdicts,
    whole, problem
FROM occurrence WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: full_reset
SELECT coalesce(max(seq), 0) FROM reset WHERE key IS NULL AND namespace IS NULL;

-- name: seed_events
SELECT seq, event, key, received, force, source, id, data
FROM occurrence WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: seed_events_before_newest
SELECT seq FROM occurrence WHERE seq > :after ORDER BY seq DESC LIMIT 1 OFFSET :newest;

-- name: seed_states
SELECT seq, time, rule, 'fired', executor FROM job WHERE seq > :after
UNION ALL
SELECT seq, time, rule, kind, state FROM moment WHERE seq > :after AND kind <> 'pause'
ORDER BY 1 LIMIT :limit;

-- name: seed_states_before_newest
SELECT seq FROM (
    SELECT seq FROM job WHERE seq > :after
    UNION ALL
    SELECT seq FROM moment WHERE seq > :after AND kind <> 'pause')
ORDER BY seq DESC LIMIT 1 OFFSET :newest;
