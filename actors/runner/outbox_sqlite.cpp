#include "actors/runner/outbox_sqlite.hpp"

#include <array>

#include "config/json_parse.hpp"
#include "config/overload.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;
using sqlite::statement;

/// A step is never changed.
constexpr std::array<std::string_view, 1> schema_steps{R"sql(
create table attempt(
  token integer primary key, run text not null, started text not null default '',
  finish text not null default '', acked integer not null default 0);
create table chunk(
  token integer not null references attempt(token), seq integer not null, stream text not null,
  data blob not null, primary key(token, seq));
)sql"};

std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Nothing for what is not there, or is none. The token is the row's: texts of older versions name
/// none.
template <class Message>
std::optional<Message> message_of(std::uint64_t token, const std::string& text,
                                  result<Message> (*parse)(const json&)) {
  auto said = parse(parse_or_discard(text));
  if (!said) return {};
  said->token = token;
  return std::move(*said);
}

}  // namespace

result<std::unique_ptr<outbox_sqlite>> outbox_sqlite::open(const std::string& path) {
  auto db = sqlite::connection::open(
      {"the outbox",
       "what waited in it for the dispatcher is lost: move {path} away and start again, its runs "
       "are retried",
       false, "chunk"},
      path, sqlite::role::writer, schema_steps);
  if (!db) return fail(db.error());
  return std::unique_ptr<outbox_sqlite>{new outbox_sqlite{std::move(*db)}};
}

result<void> outbox_sqlite::write(const std::vector<outbox_record>& records) {
  const auto give_up = [&](error why) -> result<void> {
    db_->undo();
    return fail(std::move(why));
  };
  if (!db_->run("begin immediate")) return fail(db_->failure("write"));
  for (const auto& one : records)
    if (auto done = write_one(one); !done) return give_up(done.error());
  if (!db_->run("commit")) return give_up(db_->failure("write"));
  return {};
}

result<void> outbox_sqlite::write_one(const outbox_record& record) {
  return std::visit(
      overload{
          [&](const begun_record& r) {
            return statement{*db_, "insert into attempt(token, run) values(?,?)"}
                .bind(r.token)
                .bind(r.run)
                .done();
          },
          [&](const started_record& r) {
            return statement{*db_, "update attempt set started=? where token=?"}
                .bind(text_of(to_json(r.said)))
                .bind(r.token)
                .done();
          },
          [&](const chunk_record& r) {
            return statement{*db_, "insert into chunk(token, seq, stream, data) values(?,?,?,?)"}
                .bind(r.token)
                .bind(r.piece.seq)
                .bind(domain::to_string(r.piece.stream))
                .bind_blob(r.piece.data)
                .done();
          },
          [&](const finish_record& r) {
            return statement{*db_, "update attempt set finish=? where token=?"}
                .bind(text_of(to_json(r.said)))
                .bind(r.token)
                .done();
          },
          [&](const acked_record& r) {
            auto done = statement{*db_, "delete from chunk where token=? and seq<=?"}
                            .bind(r.token)
                            .bind(r.seq)
                            .done();
            if (!done) return done;
            // Its beginning was said before the chunk; at worst `why` lacks that line after a
            // crash.
            return statement{*db_,
                             "update attempt set acked=max(acked,?), started='' where token=?"}
                .bind(r.seq)
                .bind(r.token)
                .done();
          },
          [&](const over_record& r) {
            auto done = statement{*db_, "delete from chunk where token=?"}.bind(r.token).done();
            if (!done) return done;
            return statement{*db_, "delete from attempt where token=?"}.bind(r.token).done();
          }},
      record);
}

result<std::vector<kept_attempt>> outbox_sqlite::attempts() {
  std::vector<kept_attempt> out;
  auto read =
      statement{*db_, "select token, run, started, finish, acked from attempt order by token"}.each(
          [&](const statement& s) {
            kept_attempt a;
            a.token = s.count(0);
            a.run = s.text(1);
            a.started = message_of<rpc::started>(a.token, s.text(2), rpc::parse_started);
            a.finish = message_of<rpc::finish>(a.token, s.text(3), rpc::parse_finish);
            if (a.finish) a.finish->last_seq.reset();
            a.acked = s.count(4);
            out.push_back(std::move(a));
          });
  if (!read) return fail(read.error());
  for (auto& a : out) {
    auto next = a.acked + 1;
    auto sizes = statement{*db_, "select seq, length(data) from chunk where token=? order by seq"}
                     .bind(a.token)
                     .each([&](const statement& s) {
                       if (s.count(0) != next) return;  // After a gap nothing can be said any more.
                       ++next;
                       a.size_bytes.push_back(static_cast<std::size_t>(s.count(1)));
                     });
    if (!sizes) return fail(sizes.error());
  }
  return out;
}

result<std::vector<chunk>> outbox_sqlite::chunks(std::uint64_t token, std::uint64_t from,
                                                 std::uint64_t to) {
  std::vector<chunk> out;
  auto read =
      statement{
          *db_,
          "select seq, stream, data from chunk where token=? and seq between ? and ? order by "
          "seq"}
          .bind(token)
          .bind(from)
          .bind(to)
          .each([&](const statement& s) {
            // One of a stream that we do not know is as one that is missing.
            if (const auto stream = domain::stream_from(s.text(1)))
              out.push_back({s.count(0), *stream, s.text(2)});
          });
  if (!read) return fail(read.error());
  if (out.size() != to - from + 1)
    return fail(ec::journal_corrupt,
                "the outbox " + db_->path() + " has lost chunks of token " + std::to_string(token));
  return out;
}

}  // namespace ntrace::runner
