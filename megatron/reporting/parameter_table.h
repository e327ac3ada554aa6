// Aligned text blocks at the start and end of a run's log.
#pragma once

#include <string>
#include <vector>

#include "megatron/reporting/run_records.h"

namespace megatron {

// Names and values in as many columns as fit `width`, filled column by column. Pairs too wide for a
// column follow on lines of their own.
std::vector<std::string> parameter_columns(const NamedValues& pairs, int width);

// Title, layout, steps, pipeline stages, measured peak, and options that differ from their
// defaults.
std::vector<std::string> run_header(const RunDescription& description, int width);

// A box with a title and aligned rows. `unicode` selects line-drawing characters.
std::vector<std::string> boxed(const RunSummary& summary, bool unicode);

}  // namespace megatron
