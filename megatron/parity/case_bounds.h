// Wider bounds that the options of a case call for, and options that are left out of the
// comparison, each with its reason. Both follow from the options, so new cases of the same kinds
// need no entry.
#pragma once

#include <string>
#include <vector>

#include "megatron/config/options/options.h"
#include "megatron/parity/comparison.h"

namespace megatron {

// `case_dtype` is the dtype of the case's numbers; `options` are those that the case has
// configured, with the dtype of the run.
std::vector<BoundException> bound_exceptions(at::ScalarType case_dtype, const Options& options);

// Turns off the options that megatron-core accepts and does not apply on the path of the cases, and
// that this program does apply: its numbers are those of the model without them. Returns a line for
// each that was on.
std::vector<std::string> clear_options_that_the_peer_ignores(Options& options);

}  // namespace megatron
