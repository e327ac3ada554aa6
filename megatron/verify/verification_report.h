// The result of a verification as a table and as JSON.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/verify/layout_verification.h"

namespace megatron {

class VerificationReport {
 public:
  // `name_width`: columns of the longest layout name.
  VerificationReport(double bound, int name_width) : bound_(bound), name_width_(name_width) {}

  // The lines of the table: its head, and a row for a result. The row of a layout beyond the bound
  // is followed by lines that name the quantity, the tensor, the step and the rank.
  std::string head() const;
  std::string row(const LayoutResult& result) const;

  // "PASS: 8 layouts compute what one rank computes; largest difference 3.1e-12 (bound 1e-08)".
  std::string verdict(const std::vector<LayoutResult>& results, double seconds) const;

  // The message of the error for results that do not hold: tensor and layout of the largest one.
  std::string failure(const std::vector<LayoutResult>& results) const;

  nlohmann::json to_json(const LayoutResult& result) const;

 private:
  double bound_;
  int name_width_;
};

}  // namespace megatron
