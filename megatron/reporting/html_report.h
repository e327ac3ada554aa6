// A training run as one self-contained HTML page: no scripts, and no external style sheets, fonts
// or images. It follows the reader's light or dark colour scheme.
#pragma once

#include <string>

#include "megatron/reporting/json_log.h"

namespace megatron {

// The page: loss curve with validation points and resume marks, gradient norm, learning rate,
// speed, layouts, results, options.
std::string html_report(const RunHistory& history);

// Writes the page to a temporary file beside `report_path`, then renames it. Creates missing
// folders. Throws Error if that fails or if `report_path` exists and is not a regular file.
void write_html_report(const RunHistory& history, const std::string& report_path);

// Writes the page from a log. Throws Error if `json_log_path` cannot be read or equals
// `report_path`.
void write_html_report(const std::string& json_log_path, const std::string& report_path);

// Throws Error if writing the report would replace the log, a folder or a device.
void check_report_path(const std::string& json_log_path, const std::string& report_path);

}  // namespace megatron
