// Converts records to JSON lines and back.
#include "megatron/reporting/json_log.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

double to_double(const Json& value) {
  if (value.is_number()) return value.get<double>();
  const auto text = value.get<std::string>();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  fail("Expected a number in the log, but got '{}'; only NaN and Infinity are written as text",
       text);
}

double double_or(const Json& object, const char* key, double otherwise) {
  return object.contains(key) ? to_double(object.at(key)) : otherwise;
}

Json pairs_to_json(const NamedValues& pairs) {
  Json list = Json::array();
  for (const auto& [name, value] : pairs) list.push_back({name, value});
  return list;
}

NamedValues pairs_from_json(const Json& list) {
  NamedValues pairs;
  for (const auto& pair : list) pairs.emplace_back(pair.at(0), pair.at(1));
  return pairs;
}

// The object on one line. Bytes that are not UTF-8 (in a path, for example) become U+FFFD.
std::string to_line(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// "mtp_1_loss" for depth 0.
std::string mtp_key(size_t depth, const char* what) {
  return fmt::format("mtp_{}_{}", depth + 1, what);
}

std::string step_to_line(const StepRecord& record) {
  Json object = {{"step", record.iteration},
                 {"loss", number(record.loss)},
                 {"grad_norm", number(record.grad_norm)},
                 {"lr", number(record.learning_rate)},
                 {"consumed_samples", record.consumed_samples},
                 {"ms", number(record.step_ms)},
                 {"tokens_per_s", number(record.tokens_per_s)}};
  if (record.batch_size > 0) object["batch_size"] = record.batch_size;
  if (record.loss_scale != 0) object["loss_scale"] = number(record.loss_scale);
  if (const auto& low = record.low_precision) {
    object["fp8"] = {{"recipe", low->recipe},
                     {"elements", low->elements},
                     {"saturated", low->saturated},
                     {"underflowed", low->underflowed}};
  }
  if (record.model_tflops != 0) object["tflops"] = number(record.model_tflops);
  if (record.gemm_peak_fraction != 0) {
    object["gemm_peak_fraction"] = number(record.gemm_peak_fraction);
  }
  if (record.memory_mib != 0) object["memory_mib"] = number(record.memory_mib);
  for (size_t depth = 0; depth < record.mtp.size(); ++depth) {
    object[mtp_key(depth, "loss")] = number(record.mtp[depth].loss);
    object[mtp_key(depth, "tokens")] = number(record.mtp[depth].tokens);
    object[mtp_key(depth, "acceptance_rate")] = number(record.mtp[depth].acceptance_rate);
  }
  for (const MoeLayerRecord& layer : record.moe) {
    Json& entry = object["moe"].emplace_back(
        Json{{"layer", layer.layer}, {"load", number(layer.load)}, {"dropped", layer.dropped}});
    for (const auto& [name, value] : layer.losses) entry["losses"][name] = number(value);
  }
  return to_line(object);
}

StepRecord step_from_json(const Json& object) {
  StepRecord record;
  record.iteration = object.at("step").get<int64_t>();
  record.loss = to_double(object.at("loss"));
  record.grad_norm = to_double(object.at("grad_norm"));
  record.learning_rate = to_double(object.at("lr"));
  record.consumed_samples = object.value("consumed_samples", int64_t{0});
  record.step_ms = double_or(object, "ms", 0);
  record.tokens_per_s = double_or(object, "tokens_per_s", 0);
  record.batch_size = object.value("batch_size", int64_t{0});
  record.loss_scale = double_or(object, "loss_scale", 0);
  if (object.contains("fp8")) {
    const Json& low = object.at("fp8");
    record.low_precision = {.recipe = low.value("recipe", ""),
                            .elements = double_or(low, "elements", 0),
                            .saturated = double_or(low, "saturated", 0),
                            .underflowed = double_or(low, "underflowed", 0)};
  }
  record.model_tflops = double_or(object, "tflops", 0);
  record.gemm_peak_fraction = double_or(object, "gemm_peak_fraction", 0);
  record.memory_mib = double_or(object, "memory_mib", 0);
  for (size_t depth = 0; object.contains(mtp_key(depth, "loss")); ++depth) {
    record.mtp.push_back(
        {.loss = to_double(object.at(mtp_key(depth, "loss"))),
         .tokens = double_or(object, mtp_key(depth, "tokens").c_str(), 0),
         .acceptance_rate = double_or(object, mtp_key(depth, "acceptance_rate").c_str(), 0)});
  }
  for (const Json& entry : object.value("moe", Json::array())) {
    MoeLayerRecord& layer = record.moe.emplace_back();
    layer.layer = entry.value("layer", "");
    layer.load = double_or(entry, "load", 0);
    layer.dropped = double_or(entry, "dropped", 0);
    for (const auto& [name, value] : entry.value("losses", Json::object()).items())
      layer.losses.emplace_back(name, to_double(value));
  }
  return record;
}

std::string run_to_line(const RunStart& run) {
  const auto& description = run.description;
  Json object = {{"event", "run"},
                 {"time", run.time},
                 {"title", description.title},
                 {"layout", description.layout},
                 {"world_size", description.world_size},
                 {"first_iteration", description.first_iteration},
                 {"train_iters", description.train_iters},
                 {"stages", description.stages},
                 {"settings", pairs_to_json(description.settings)}};
  if (description.gemm_peak_tflops != 0)
    object["gemm_peak_tflops"] = number(description.gemm_peak_tflops);
  return to_line(object);
}

RunStart run_from_json(const Json& object) {
  RunStart run;
  run.time = object.at("time").get<std::string>();
  auto& description = run.description;
  description.title = object.at("title").get<std::string>();
  description.layout = object.at("layout").get<std::string>();
  description.world_size = object.at("world_size").get<int64_t>();
  description.first_iteration = object.at("first_iteration").get<int64_t>();
  description.train_iters = object.at("train_iters").get<int64_t>();
  description.stages = object.at("stages").get<std::vector<std::string>>();
  description.settings = pairs_from_json(object.at("settings"));
  description.gemm_peak_tflops = double_or(object, "gemm_peak_tflops", 0);
  return run;
}

void add_event(RunHistory& history, const Json& object) {
  const auto kind = object.at("event").get<std::string>();
  if (kind == "run") {
    history.add(run_from_json(object));
  } else if (kind == "evaluation") {
    EvaluationRecord record;
    record.iteration = object.at("step").get<int64_t>();
    record.split = object.at("split").get<std::string>();
    record.loss = to_double(object.at("loss"));
    if (object.contains("bits_per_byte")) {
      record.bits_per_byte = to_double(object.at("bits_per_byte"));
    }
    history.add(std::move(record));
  } else if (kind == "note") {
    history.add(RunNote{object.at("step").get<int64_t>(), object.at("text").get<std::string>()});
  } else if (kind == "summary") {
    history.add(
        RunSummary{object.at("title").get<std::string>(), pairs_from_json(object.at("rows"))});
  }
}

// Calls `take` for each line that is a JSON object and skips lines that `take` throws on. Returns
// whether the file was empty or had a valid line.
template <typename Take>
bool for_each_object(const std::string& path, const Take& take) {
  std::ifstream file(path);
  bool any_line = false, any_good = false;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    any_line = true;
    try {
      take(Json::parse(line));
      any_good = true;
    } catch (const nlohmann::json::exception&) {
    } catch (const Error&) {
    }
  }
  return any_good || !any_line;
}

bool is_readable_file(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Terminates an incomplete last line, so that the next record starts a new line.
void end_last_line(LogFile& file) {
  if (!file.regular()) return;
  std::ifstream reader(file.path(), std::ios::binary | std::ios::ate);
  if (reader.tellg() <= 0) return;
  reader.seekg(-1, std::ios::end);
  if (reader.get() != '\n') file.append("\n");
}

// Inserts ".superseded" before the last extension.
std::string superseded_path(const std::string& path) {
  const std::filesystem::path file(path);
  return (file.parent_path() / (file.stem().string() + ".superseded" + file.extension().string()))
      .string();
}

// Whether a run that starts after `first_iteration` supersedes the record of that line.
bool is_superseded(std::string_view line, int64_t first_iteration) {
  const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return false;
  if (object.contains("step") && object["step"].is_number_integer())
    return object["step"].get<int64_t>() > first_iteration || first_iteration == 0;
  const std::string event = object.contains("event") && object["event"].is_string()
                                ? object["event"].get<std::string>()
                                : "";
  return event == "summary" ||
         (event == "run" && object.value("first_iteration", int64_t{-1}) >= first_iteration);
}

int64_t cut_records(const std::string& path, int64_t first_iteration) {
  if (!is_readable_file(path)) return 0;
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  size_t kept = text.size(), position = text.size();
  int64_t count = 0;
  while (position > 0) {
    // The line that ends at `position`. A last one without a newline is what a killed run left of a
    // record: it goes if the one before it goes.
    const bool torn = text[position - 1] != '\n';
    const size_t end = torn ? position : position - 1;
    const size_t newline = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    position = newline == std::string::npos ? 0 : newline + 1;
    if (torn) continue;
    if (!is_superseded(std::string_view(text).substr(position, end - position), first_iteration))
      break;
    kept = position;
    ++count;
  }
  if (count == 0) return 0;
  LogFile superseded("--log-json", superseded_path(path), LogFile::Mode::append);
  std::error_code error;
  if (superseded.append(std::string_view(text).substr(kept)))
    std::filesystem::resize_file(path, kept, error);
  check(!error && superseded.error().empty(),
        "Expected to move the records after iteration {} from {} to {}, but could not ({}); give "
        "another path to --log-json",
        first_iteration, path, superseded.path(), error ? error.message() : superseded.error());
  return count;
}

template <typename Records, typename IsSuperseded>
void drop_if(Records& records, const IsSuperseded& is_superseded) {
  records.erase(std::remove_if(records.begin(), records.end(), is_superseded), records.end());
}

}  // namespace

void RunHistory::add(RunStart run) {
  const int64_t first = run.description.first_iteration;
  drop_if(runs, [&](const RunStart& r) { return r.description.first_iteration >= first; });
  while (!steps.empty() && steps.back().iteration > first) steps.pop_back();
  drop_if(evaluations, [&](const EvaluationRecord& r) { return r.iteration > first; });
  drop_if(notes, [&](const RunNote& r) { return r.iteration > first || first == 0; });
  summaries.clear();
  runs.push_back(std::move(run));
}

void RunHistory::add(const StepRecord& record) {
  while (!steps.empty() && steps.back().iteration >= record.iteration) steps.pop_back();
  steps.push_back(record);
}

void RunHistory::add(EvaluationRecord record) {
  drop_if(evaluations, [&](const EvaluationRecord& r) {
    return r.iteration == record.iteration && r.split == record.split;
  });
  evaluations.push_back(std::move(record));
}

void RunHistory::add(RunNote note) {
  notes.push_back(std::move(note));
}

void RunHistory::add(RunSummary summary) {
  summaries.push_back(std::move(summary));
}

std::string event_log_path(const std::string& path) {
  const std::filesystem::path file(path);
  auto name = file.stem();
  name += ".events";
  name += file.extension();
  return (file.parent_path() / name).string();
}

RunHistory read_json_log(const std::string& path) {
  RunHistory history;
  // Events first: adding a run removes the steps that it repeats, before its own steps are added.
  if (is_readable_file(event_log_path(path))) {
    for_each_object(event_log_path(path), [&](const Json& object) { add_event(history, object); });
  }
  bool good = true;
  if (is_readable_file(path)) {
    good = for_each_object(path, [&](const Json& object) { history.add(step_from_json(object)); });
  }
  check(
      good,
      "Expected a log with one JSON object per step, but no line of '{}' is one; give the file of "
      "--log-json",
      path);
  return history;
}

int64_t cut_json_log(const std::string& path, int64_t first_iteration) {
  if (path.empty()) return 0;
  return cut_records(path, first_iteration) + cut_records(event_log_path(path), first_iteration);
}

JsonLog::JsonLog(const std::string& path, const RunStart& run)
    : steps_("--log-json", path, LogFile::Mode::append) {
  end_last_line(steps_);
  if (!steps_.regular()) return;
  events_ = std::make_unique<LogFile>("--log-json", event_log_path(path), LogFile::Mode::append);
  end_last_line(*events_);
  check(
      append_event(run_to_line(run)),
      "Expected space for the file of --log-json, but got '{}' for '{}'; free some space or give a "
      "path on another disk",
      error_, events_->path());
}

bool JsonLog::step(const StepRecord& record) {
  return append(steps_, step_to_line(record));
}

bool JsonLog::evaluation(const EvaluationRecord& record) {
  Json object = {{"event", "evaluation"},
                 {"step", record.iteration},
                 {"split", record.split},
                 {"loss", number(record.loss)}};
  if (record.bits_per_byte) object["bits_per_byte"] = number(*record.bits_per_byte);
  return append_event(to_line(object));
}

bool JsonLog::note(const RunNote& note) {
  return append_event(to_line({{"event", "note"}, {"step", note.iteration}, {"text", note.text}}));
}

bool JsonLog::summary(const RunSummary& summary) {
  return append_event(to_line(
      {{"event", "summary"}, {"title", summary.title}, {"rows", pairs_to_json(summary.rows)}}));
}

bool JsonLog::append(LogFile& file, std::string line) {
  if (file.append(line)) return true;
  error_ = file.error();
  return false;
}

bool JsonLog::append_event(std::string line) {
  return !events_ || append(*events_, std::move(line));
}

}  // namespace megatron
