// The blocks of aligned text at the start and the end of a run's log.
#pragma once

#include <string>
#include <vector>

#include "megatron/reporting/run_records.h"

namespace megatron {

// Names and values side by side in as many columns as fit `width`, read down each column. A pair
// too wide for columns gets a line of its own, after the others and whole.
std::vector<std::string> parameter_columns(const NamedValues& pairs, int width);

// Title, layout, steps to do, stages, measured peak, and the options that differ from their
// defaults.
std::vector<std::string> run_header(const RunDescription& description, int width);

// A box around a title and aligned rows; with line-drawing characters where `unicode`.
std::vector<std::string> boxed(const RunSummary& summary, bool unicode);

}  // namespace megatron
