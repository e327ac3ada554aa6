// A run as one HTML page that needs nothing else: no script, no style sheet, no font, no image from
// elsewhere. Light and dark follow the reader's system.
#pragma once

#include <string>

#include "megatron/reporting/json_log.h"

namespace megatron {

// The page's text: loss curve with validation points and the places where the run was resumed,
// gradient norm, learning rate, speed, layouts, results, options.
std::string html_report(const RunHistory& history);

// Writes the page to `report_path` (to a temporary file beside it, then renamed; missing folders
// are made). Throws Error where that cannot be done, or where the path is no regular file.
void write_html_report(const RunHistory& history, const std::string& report_path);

// The same from the log alone, for a run that ended some time ago. Throws Error where
// `json_log_path` cannot be read or is the report's own path.
void write_html_report(const std::string& json_log_path, const std::string& report_path);

// Throws Error where the report would replace the log, or a file that is none of ours to replace.
void check_report_path(const std::string& json_log_path, const std::string& report_path);

}  // namespace megatron
