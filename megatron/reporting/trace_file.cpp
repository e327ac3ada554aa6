#include "megatron/reporting/trace_file.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <optional>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/parallel/communication_range.h"
#include "megatron/parallel/thread_ranks.h"
#include "megatron/transformer/layer_backward_range.h"

namespace megatron {
namespace {

using Json = nlohmann::json;

// ---- The rank of an event.

// The number at the start of a text, or nullopt.
std::optional<int> leading_number(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

// The thread of an event; nullopt for GPU streams and spans.
std::optional<int64_t> thread_of(const Json& event, const TraceRanks& ranks) {
  const auto pid = event.find("pid"), tid = event.find("tid");
  if (pid == event.end() || *pid != ranks.process) return std::nullopt;
  if (tid == event.end() || !tid->is_number_integer()) return std::nullopt;
  return tid->get<int64_t>();
}

bool is_thread_record(const Json& event) {
  return event.value("ph", "") == "M" && event.value("name", "").starts_with("thread_");
}

// NAME in Kineto's "thread NUMBER (NAME)".
std::string own_name(const std::string& record) {
  const size_t begin = record.find('('), end = record.rfind(')');
  return begin < end && end != std::string::npos ? record.substr(begin + 1, end - begin - 1)
                                                 : record;
}

// The name of every thread that has events. Kineto names one thread twice, the second time after
// the thread that writes the trace; that name is wrong.
std::map<int64_t, std::string> names_of_threads(const Json& events, const TraceRanks& ranks) {
  std::map<int64_t, std::vector<std::string>> records;
  std::set<int64_t> used;
  for (const Json& event : events) {
    const auto thread = thread_of(event, ranks);
    if (!thread) continue;
    if (event.value("ph", "") != "M") {
      used.insert(*thread);
    } else if (event.value("name", "") == "thread_name") {
      records[*thread].push_back(event["args"].value("name", ""));
    }
  }
  const auto written_by = records.find(ranks.recorder);
  const std::string recorder =
      written_by == records.end() ? "" : own_name(written_by->second.front());
  std::map<int64_t, std::string> names;
  for (const auto& [thread, list] : records) {
    if (!used.contains(thread)) continue;
    const auto right = std::ranges::find_if(
        list, [&](const std::string& name) { return own_name(name) != recorder; });
    names[thread] = right == list.end() ? list.front() : *right;
  }
  for (const auto& [thread, rank] : ranks.rank_of_thread) {
    if (used.contains(thread)) names[thread] = fmt::format("rank {}", rank);
  }
  return names;
}

// The rank of each thread: of the ranks' main threads, and of threads they started, which inherit
// their names.
std::map<int64_t, int> ranks_of_threads(const std::map<int64_t, std::string>& names,
                                        const TraceRanks& ranks) {
  std::map<int64_t, int> rank_of = ranks.rank_of_thread;
  for (const auto& [thread, name] : names) {
    const std::string own = own_name(name);
    if (!own.starts_with(kRankThreadName)) continue;
    if (const auto rank = leading_number(std::string_view(own).substr(kRankThreadName.size())))
      rank_of.try_emplace(thread, *rank);
  }
  return rank_of;
}

// ---- Separate rows.

// The row that an event moves to.
struct Move {
  std::string row, name;
  std::optional<int> rank;  // if the event's name contains it
};

// Rows for our communication ranges, and for those of c10d's transports, which last until the
// operation's actual end.
std::optional<Move> move_of(const Json& event) {
  if (event.value("ph", "") != "X" || event.value("cat", "") != "user_annotation")
    return std::nullopt;
  const std::string name = event.value("name", "");
  if (name.starts_with(kCommunicationRange)) {
    const size_t colon = name.find(": ");
    if (colon == std::string::npos) return std::nullopt;
    return Move{"communication", name.substr(colon + 2),
                leading_number(std::string_view(name).substr(kCommunicationRange.size()))};
  }
  if (name.starts_with("gloo:") || name.starts_with("nccl:")) return Move{"transport", name, {}};
  if (name.starts_with(kLayerBackwardRange)) return Move{"backward of layers", name, {}};
  return std::nullopt;
}

double begin_of(const Json& event) {
  return event["ts"].get<double>();
}

double end_of(const Json& event) {
  return begin_of(event) + event.value("dur", 0.0);
}

// Puts overlapping ranges on separate rows: each range on the first free row.
class Rows {
 public:
  size_t place(double begin, double end) {
    constexpr double kRounding = 0.01;  // microseconds since the epoch use all digits of a double
    size_t row = 0;
    while (row < free_from_.size() && free_from_[row] > begin + kRounding) ++row;
    if (row == free_from_.size()) free_from_.push_back(end);
    free_from_[row] = end;
    return row;
  }

 private:
  std::vector<double> free_from_;
};

Json thread_name(const Json& process, const Json& thread, const std::string& name) {
  return {{"ph", "M"},
          {"name", "thread_name"},
          {"pid", process},
          {"tid", thread},
          {"args", {{"name", name}}}};
}

// A layer's backward range starts at the gradient that ends the range of the layer above. The hook
// that starts it runs first, so the two ranges overlap by the duration of the hook.
void separate_layers(const std::vector<Json*>& ranges) {
  std::map<Json, Json*> last;  // by thread
  for (Json* event : ranges) {
    if (!(*event)["name"].get<std::string>().starts_with(kLayerBackwardRange)) continue;
    Json*& before = last[(*event)["tid"]];
    if (before && end_of(*before) > begin_of(*event))
      (*before)["dur"] = begin_of(*event) - begin_of(*before);
    before = event;
  }
}

void move_ranges(Json& events, const std::map<int64_t, int>& rank_of, const TraceRanks& ranks) {
  std::vector<Json*> ranges;
  for (Json& event : events) {
    if (move_of(event)) ranges.push_back(&event);
  }
  std::ranges::stable_sort(ranges, {}, [](const Json* event) { return begin_of(*event); });
  separate_layers(ranges);
  std::map<std::string, Rows> rows;
  std::map<std::string, Json> labels;
  for (Json* event : ranges) {
    Move move = *move_of(*event);
    if (ranks.are_threads && !move.rank) {
      const auto rank = rank_of.find(thread_of(*event, ranks).value_or(-1));
      if (rank != rank_of.end()) move.rank = rank->second;
    }
    std::string label = move.row;
    if (ranks.are_threads && move.rank) label += fmt::format(" of rank {}", *move.rank);
    const size_t row = rows[label].place(begin_of(*event), end_of(*event));
    if (row > 0) label += fmt::format(" ({})", row + 1);
    labels.try_emplace(label, thread_name((*event)["pid"], label, label));
    if (move.row != "backward of layers") (*event)["cat"] = "communication";
    (*event)["name"] = move.name;
    (*event)["tid"] = label;
  }
  for (const auto& [label, event] : labels) events.push_back(event);
}

// Keeps one metadata record of each kind per thread, with the right name, and only the events of
// the requested ranks.
Json kept_events(Json& events, const TraceRanks& ranks, const std::map<int64_t, std::string>& names,
                 const std::map<int64_t, int>& rank_of) {
  const auto unwanted = [&](std::optional<int> rank) {
    return ranks.are_threads && rank && !ranks.ranks.contains(*rank);
  };
  const auto rank_of_thread = [&](int64_t thread) {
    const auto found = rank_of.find(thread);
    return found == rank_of.end() ? std::nullopt : std::optional(found->second);
  };
  Json kept = Json::array();
  std::set<std::pair<int64_t, std::string>> recorded;
  for (Json& event : events) {
    const auto thread = thread_of(event, ranks);
    const auto move = move_of(event);
    if (unwanted(move && move->rank ? move->rank : thread ? rank_of_thread(*thread) : std::nullopt))
      continue;
    if (thread && is_thread_record(event)) {
      const auto name = names.find(*thread);
      const std::string kind = event["name"];
      if (name == names.end() || !recorded.emplace(*thread, kind).second) continue;
      if (kind == "thread_name") event["args"]["name"] = name->second;
    }
    kept.push_back(std::move(event));
  }
  return kept;
}

}  // namespace

void arrange_trace(const std::string& file, const TraceRanks& ranks) {
  Json trace;
  try {
    std::ifstream in(file);
    trace = Json::parse(in);
  } catch (const Json::exception& error) {
    fail("Expected a trace of libtorch's profiler in {}, but got {}", file, error.what());
  }
  check(trace.contains("traceEvents") && trace["traceEvents"].is_array(),
        "Expected traceEvents in {}, but got none", file);
  Json& events = trace["traceEvents"];
  const auto names = names_of_threads(events, ranks);
  const auto rank_of = ranks_of_threads(names, ranks);
  events = kept_events(events, ranks, names, rank_of);
  move_ranges(events, rank_of, ranks);
  for (Json& event : events) {
    if (event.value("ph", "") == "M" && event.value("name", "") == "process_name")
      event["args"]["name"] = fmt::format("rank{} {}", ranks.ranks.size() == 1 ? "" : "s",
                                          fmt::join(ranks.ranks, ", "));
  }
  std::ofstream out(file, std::ios::trunc);
  out << trace.dump() << '\n';
  out.close();
  check(out.good(), "Expected to write the trace {}, but could not", file);
}

}  // namespace megatron
