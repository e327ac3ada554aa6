#include "megatron/parity/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

constexpr std::array<ParityBound, 10> kBounds = {{
    {"buffer", 2e-5, false},
    {"logits", 2e-5, false},
    {"per_token_loss", 2e-5, false},
    {"mean_loss", 1e-5, false},
    {"gradient", 2e-5, false},
    {"gradient_tensor", 1e-4, true},
    {"step_loss", 1e-5, false},
    {"mtp_loss", 1e-5, false},
    {"step_grad_norm", 1e-5, true},
    {"weight_after3", 1e-5, true},
}};

struct KindSummary {
  int64_t count = 0;
  double largest = 0;
  std::string where;
};

// NaN counts as the largest of all.
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
    // JSON has no NaN: null stands for it.
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

std::vector<Comparison::Difference> Comparison::failures(double tolerance) const {
  std::vector<Difference> failed;
  for (const auto& [key, difference] : differences_) {
    if (exceeds(difference, tolerance * parity_bound(key.first).bound)) {
      failed.push_back({key.first, key.second, difference});
    }
  }
  return failed;
}

bool Comparison::holds(double tolerance) const {
  return failures(tolerance).empty();
}

static std::map<ParityKind, KindSummary> summarize(
    const std::map<std::pair<ParityKind, std::string>, double>& differences) {
  std::map<ParityKind, KindSummary> kinds;
  for (const auto& [key, difference] : differences) {
    KindSummary& kind = kinds[key.first];
    if (kind.count++ == 0 || (!std::isnan(kind.largest) && exceeds(difference, kind.largest))) {
      kind.largest = difference;
      kind.where = key.second;
    }
  }
  return kinds;
}

std::string Comparison::table(double tolerance) const {
  std::string text = fmt::format("{:<16} {:>8}  {:>12}  {:>10}  {}\n", "kind", "compared",
                                 "largest diff", "bound", "where");
  for (const auto& [kind, summary] : summarize(differences_)) {
    const ParityBound& bound = parity_bound(kind);
    text += fmt::format("{:<16} {:>8}  {:>8.2e} {:<3}  {:>10.2e}  {}\n", bound.name, summary.count,
                        summary.largest, bound.relative ? "rel" : "abs", tolerance * bound.bound,
                        summary.where);
  }
  for (const std::string& what : absent_) text += fmt::format("not in the case: {}\n", what);
  for (const Difference& failure : failures(tolerance)) {
    const ParityBound& bound = parity_bound(failure.kind);
    text += fmt::format("FAILED {} of {}: {:.3e} {} exceeds {:.3e}\n", bound.name, failure.name,
                        failure.value, bound.relative ? "relative" : "absolute",
                        tolerance * bound.bound);
  }
  return text;
}

nlohmann::json Comparison::to_json(double tolerance) const {
  nlohmann::json kinds = nlohmann::json::object();
  for (const auto& [kind, summary] : summarize(differences_)) {
    const ParityBound& bound = parity_bound(kind);
    kinds[bound.name] = {{"count", summary.count},
                         {"max", summary.largest},
                         {"where", summary.where},
                         {"bound", tolerance * bound.bound},
                         {"relative", bound.relative}};
  }
  nlohmann::json failed = nlohmann::json::array();
  for (const Difference& failure : failures(tolerance)) {
    failed.push_back({{"kind", parity_bound(failure.kind).name},
                      {"name", failure.name},
                      {"difference", failure.value}});
  }
  return {{"passed", failed.empty()},
          {"tolerance", tolerance},
          {"kinds", kinds},
          {"failures", failed},
          {"not_in_the_case", absent_}};
}

}  // namespace megatron
