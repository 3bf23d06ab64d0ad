#pragma once
// The journal's tables, as steps from one schema version to the next. A step is never changed.
#include <array>
#include <string_view>

namespace ntrace::journal {

inline constexpr std::array<std::string_view, 7> schema_steps{R"sql(
create table run(
  id text primary key, key text not null unique,
  owner text not null, repo text not null, sha text not null, source text not null,
  priority integer not null, payload text not null,
  state text not null, attempts integer not null, token integer not null,
  verdict text not null default '', reason text not null default '',
  created_ms integer not null, updated_ms integer not null) without rowid;
create index run_open on run(state) where state in ('queued','leased','running');
create index run_created on run(created_ms);
create table attempt(
  token integer primary key, run text not null references run(id), number integer not null,
  runner text not null, offered_ms integer not null, ended_ms integer not null default 0,
  verdict text not null default '', reason text not null default '',
  receipt text not null default '');
create index attempt_run on attempt(run);
create table chunk(
  id integer primary key, run text not null references run(id), attempt integer not null,
  token integer not null, seq integer not null, stream text not null, at_ms integer not null,
  data blob not null, unique(token, seq));
create index chunk_run on chunk(run, id);
create table event(
  id integer primary key autoincrement, run text not null, attempt integer not null,
  token integer not null, at_ms integer not null, actor text not null, what text not null,
  detail text not null);
create index event_run on event(run, id);
)sql",
                                                              R"sql(
alter table attempt add column is_expired integer not null default 0;
alter table run add column deadline_ms integer not null default 0;
create index run_queued on run(created_ms, id) where state='queued';
drop index run_open;
create index run_leased on run(state) where state in ('leased','running');
create table flag(name text primary key, value integer not null) without rowid;
)sql",
                                                              R"sql(
alter table attempt add column run_id text not null default '';
create index attempt_run_id on attempt(run_id) where run_id<>'';
create table doc(id text primary key, token integer not null) without rowid;
)sql",
                                                              R"sql(
create index run_ended on run(updated_ms)
  where state in ('done','failed','quarantined','cancelled');
create index event_refused on event(id) where what='push_refused';
create index doc_token on doc(token);
drop index run_created;
)sql",
                                                              R"sql(
create table pushed(
  id text primary key, key text, journal_seq integer not null default 0,
  owner text not null, repo text not null, sha text not null, source text not null,
  priority integer not null, payload text not null, deadline_ms integer not null default 0,
  state text not null, attempts integer not null, token integer not null,
  verdict text not null default '', reason text not null default '',
  created_ms integer not null, updated_ms integer not null) without rowid;
insert into pushed(id, key, journal_seq, owner, repo, sha, source, priority, payload, deadline_ms,
    state, attempts, token, verdict, reason, created_ms, updated_ms)
  select id, nullif(key, id),
    coalesce((select min(event.id) from event where event.run=run.id and what='queued'), 0),
    owner, repo, sha, source, priority, payload, deadline_ms,
    state, attempts, token, verdict, reason, created_ms, updated_ms from run order by id;
drop table run;
alter table pushed rename to run;
create unique index run_key on run(key) where key is not null;
create index run_queued on run(journal_seq) where state='queued';
create index run_leased on run(state) where state in ('leased','running');
create index run_ended on run(updated_ms)
  where state='done' or state='failed' or state='quarantined' or state='cancelled';
delete from event where what='queued';
)sql",
                                                              R"sql(
alter table run add column has_source integer;
alter table run add column asked_deadline_ms integer;
)sql",
                                                              R"sql(
create table outage(
  run text primary key, total integer not null, tries integer not null, host text not null,
  cause text not null, message text not null, waited_ms integer not null, wait_ms integer not null,
  since_ms integer not null, at_ms integer not null) without rowid;
)sql"};

/// From these on there is the table `doc`, the column `run.journal_seq`, and the table `outage`.
inline constexpr int schema_with_documents = 3, schema_with_numbers = 5, schema_with_outages = 7;
inline constexpr int schema_version = static_cast<int>(schema_steps.size());

}  // namespace ntrace::journal
