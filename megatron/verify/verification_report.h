// Formats the results of a verification as a table and as JSON.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/verify/layout_verification.h"

namespace megatron {

class VerificationReport {
 public:
  // `name_width`: width of the layout column.
  VerificationReport(double bound, int name_width) : bound_(bound), name_width_(name_width) {}

  // The table's header line and the row of a result. A row beyond the bound has further lines that
  // name the quantity, the tensor, the step and the rank.
  std::string head() const;
  std::string row(const LayoutResult& result) const;

  // "PASS: 8 layouts compute what one rank computes; largest difference 3.1e-12 (bound 1e-08)".
  std::string verdict(const std::vector<LayoutResult>& results, double seconds) const;

  // The error message for results beyond the bound, with layout and tensor of the largest
  // difference; empty if all hold.
  std::string failure(const std::vector<LayoutResult>& results) const;

  nlohmann::json to_json(const LayoutResult& result) const;

 private:
  double bound_;
  int name_width_;
};

}  // namespace megatron
