#include "megatron/training/trace_file.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/parallel/communication_range.h"
#include "megatron/parallel/thread_ranks.h"

namespace megatron {
namespace {

using Json = nlohmann::json;

// Ours, and those of c10d's transports, from the start of an operation to its real end.
bool is_communication(const Json& event) {
  if (event.value("ph", "") != "X" || event.value("cat", "") != "user_annotation") return false;
  const std::string name = event.value("name", "");
  return name.starts_with(kCommunicationRange) || name.starts_with("gloo:") ||
         name.starts_with("nccl:");
}

// Puts ranges that overlap on rows of their own: each range on the first row that is free.
class Rows {
 public:
  size_t place(double begin, double end) {
    constexpr double kRounding =
        0.01;  // microseconds since the epoch take all of a double's digits
    size_t row = 0;
    while (row < free_from_.size() && free_from_[row] > begin + kRounding) ++row;
    if (row == free_from_.size()) free_from_.push_back(end);
    free_from_[row] = end;
    return row;
  }

 private:
  std::vector<double> free_from_;
};

// The rank that a thread is, or nothing.
std::optional<int> rank_of_thread(const std::string& name) {
  for (size_t at = name.find(kRankThreadName); at != std::string::npos;
       at = name.find(kRankThreadName, at + 1)) {
    const size_t digits = at + kRankThreadName.size();
    if (digits < name.size() && name[digits] >= '0' && name[digits] <= '9')
      return std::stoi(name.substr(digits));
  }
  return std::nullopt;
}

std::map<Json, int> ranks_of_threads(const Json& events) {
  std::map<Json, int> ranks;
  for (const Json& event : events) {
    if (event.value("ph", "") != "M" || event.value("name", "") != "thread_name") continue;
    if (const auto rank = rank_of_thread(event["args"].value("name", "")))
      ranks[event["tid"]] = *rank;
  }
  return ranks;
}

Json metadata(const Json& process, const Json& thread, const char* what, Json arguments) {
  return {{"ph", "M"}, {"name", what}, {"pid", process}, {"tid", thread}, {"args", arguments}};
}

void move_communication(Json& events, const std::map<Json, int>& rank_of) {
  std::vector<Json*> ranges;
  for (Json& event : events) {
    if (is_communication(event)) ranges.push_back(&event);
  }
  std::ranges::stable_sort(ranges, {},
                           [](const Json* event) { return (*event)["ts"].get<double>(); });
  std::map<std::string, Rows> rows;
  std::map<std::string, Json> labels;
  for (Json* event : ranges) {
    const double begin = (*event)["ts"].get<double>();
    const double end = begin + event->value("dur", 0.0);
    std::string name = (*event)["name"], label = "transport";
    if (name.starts_with(kCommunicationRange)) {
      name = name.substr(kCommunicationRange.size());
      label = "communication";
    }
    const auto rank = rank_of.find((*event)["tid"]);
    if (rank != rank_of.end()) label += fmt::format(" of rank {}", rank->second);
    const size_t row = rows[label].place(begin, end);
    if (row > 0) label += fmt::format(" ({})", row + 1);
    labels.try_emplace(label, metadata((*event)["pid"], label, "thread_name", {{"name", label}}));
    (*event)["cat"] = "communication";
    (*event)["name"] = name;
    (*event)["tid"] = label;
  }
  for (const auto& [label, event] : labels) events.push_back(event);
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
  std::map<Json, int> rank_of;
  if (ranks.are_threads) {
    rank_of = ranks_of_threads(events);
    Json kept = Json::array();
    for (Json& event : events) {
      const auto found = event.contains("tid") ? rank_of.find(event["tid"]) : rank_of.end();
      if (found != rank_of.end() && !ranks.ranks.contains(found->second)) continue;
      kept.push_back(std::move(event));
    }
    events = std::move(kept);
  }
  move_communication(events, rank_of);
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
