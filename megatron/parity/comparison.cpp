#include "megatron/parity/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

constexpr std::array<ParityBound, 23> kBounds = {{
    {"buffer", 2e-5, false},
    {"router_probs", 2e-5, false},
    {"router_map", 0, false},
    {"logits", 2e-5, false},
    {"per_token_loss", 2e-5, false},
    {"mean_loss", 1e-5, false},
    {"gradient", 2e-5, false},
    {"gradient_tensor", 1e-4, true},
    {"step_loss", 1e-5, false},
    {"moe_loss", 2e-5, true},
    {"mtp_loss", 1e-5, false},
    {"step_grad_norm", 1e-5, true},
    {"weight_after3", 1e-5, true},
    {"loss_scale", 0, false},
    {"config", 0.5, false},
    {"source_logits", 5e-5, false},
    {"source_loss", 5e-5, false},
    {"source_gradient", 5e-5, false},
    {"source_grad_norm", 5e-5, false},
    {"greedy_tokens", 0.5, false},
    {"token_ids", 0.5, false},
    {"round_trip", 0.5, false},
    {"decoded_values", 0.5, false},
}};

// NaN is larger than every number.
bool exceeds(double a, double b) {
  return std::isnan(a) || a > b;
}

}  // namespace

const ParityBound& parity_bound(ParityKind kind) {
  return kBounds[static_cast<size_t>(kind)];
}

void Comparison::record(ParityKind kind, const std::string& name, double difference) {
  auto [entry, is_new] = differences_.try_emplace({kind, name}, difference);
  if (!is_new && !std::isnan(entry->second) && exceeds(difference, entry->second))
    entry->second = difference;
}

void Comparison::merge(const ProcessGroup& world) {
  nlohmann::json mine = nlohmann::json::array();
  for (const auto& [key, difference] : differences_) {
    // NaN becomes null in JSON.
    mine.push_back({static_cast<int>(key.first), key.second, difference});
  }
  for (const std::string& text : all_gather_strings(mine.dump(), world)) {
    for (const auto& entry : nlohmann::json::parse(text)) {
      record(static_cast<ParityKind>(entry[0].get<int>()), entry[1].get<std::string>(),
             entry[2].is_null() ? std::nan("") : entry[2].get<double>());
    }
  }
}

bool Comparison::contains(ParityKind kind, const std::string& name) const {
  return differences_.contains({kind, name});
}

bool Comparison::contains(ParityKind kind) const {
  const auto first = differences_.lower_bound({kind, ""});
  return first != differences_.end() && first->first.first == kind;
}

double Comparison::bound(ParityKind kind, const std::string& name) const {
  double widest = parity_bound(kind).bound;
  for (const BoundException& exception : exceptions_) {
    const auto entry = exception.bounds.find(kind);
    if (entry != exception.bounds.end() && name.find(exception.tensor) != std::string::npos)
      widest = std::max(widest, entry->second);
  }
  return widest;
}

std::vector<std::pair<ParityKind, std::string>> Comparison::beyond_standard_bounds() const {
  std::vector<std::pair<ParityKind, std::string>> beyond;
  for (const auto& [key, difference] : differences_) {
    if (exceeds(difference, parity_bound(key.first).bound) &&
        !exceeds(difference, bound(key.first, key.second)))
      beyond.push_back(key);
  }
  return beyond;
}

std::vector<Comparison::Difference> Comparison::failures(double tolerance) const {
  std::vector<Difference> failed;
  for (const auto& [key, difference] : differences_) {
    if (exceeds(difference, tolerance * bound(key.first, key.second)))
      failed.push_back({key.first, key.second, difference});
  }
  return failed;
}

bool Comparison::holds(double tolerance) const {
  return failures(tolerance).empty();
}

std::map<ParityKind, Comparison::KindSummary> Comparison::summarize() const {
  std::map<ParityKind, KindSummary> kinds;
  for (const auto& [key, difference] : differences_) {
    KindSummary& kind = kinds[key.first];
    const double its_bound = bound(key.first, key.second);
    if (kind.count++ == 0 ||
        (!std::isnan(kind.largest) && exceeds(difference / its_bound, kind.largest / kind.bound)))
      kind = {kind.count, difference, its_bound, key.second};
  }
  return kinds;
}

std::string Comparison::table(double tolerance) const {
  std::string text = fmt::format("{:<16} {:>8}  {:>12}  {:>10}  {}\n", "kind", "compared",
                                 "largest diff", "bound", "where");
  for (const auto& [kind, summary] : summarize()) {
    const ParityBound& standard = parity_bound(kind);
    text += fmt::format("{:<16} {:>8}  {:>8.2e} {:<3}  {:>10.2e}  {}\n", standard.name,
                        summary.count, summary.largest, standard.relative ? "rel" : "abs",
                        tolerance * summary.bound, summary.where);
  }
  for (const BoundException& exception : exceptions_)
    text +=
        fmt::format("wider bounds{}: {}\n",
                    exception.tensor.empty() ? "" : " of " + exception.tensor, exception.reason);
  for (const std::string& line : notes_) text += line + "\n";
  for (const Difference& failure : failures(tolerance)) {
    const ParityBound& standard = parity_bound(failure.kind);
    text += fmt::format("FAILED {} of {}: {:.3e} {} exceeds {:.3e}\n", standard.name, failure.name,
                        failure.value, standard.relative ? "relative" : "absolute",
                        tolerance * bound(failure.kind, failure.name));
  }
  return text;
}

nlohmann::json Comparison::to_json(double tolerance) const {
  nlohmann::json kinds = nlohmann::json::object();
  for (const auto& [kind, summary] : summarize()) {
    const ParityBound& standard = parity_bound(kind);
    kinds[standard.name] = {{"count", summary.count},
                            {"max", summary.largest},
                            {"where", summary.where},
                            {"bound", tolerance * summary.bound},
                            {"relative", standard.relative}};
  }
  nlohmann::json failed = nlohmann::json::array(), wider = nlohmann::json::array();
  for (const Difference& failure : failures(tolerance)) {
    failed.push_back({{"kind", parity_bound(failure.kind).name},
                      {"name", failure.name},
                      {"difference", failure.value}});
  }
  for (const BoundException& exception : exceptions_)
    wider.push_back({{"tensor", exception.tensor}, {"reason", exception.reason}});
  return {{"passed", failed.empty()}, {"tolerance", tolerance}, {"kinds", kinds},
          {"failures", failed},       {"wider_bounds", wider},  {"notes", notes_}};
}

}  // namespace megatron
