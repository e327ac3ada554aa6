#include "megatron/reporting/terminal.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace megatron {
namespace {

constexpr int kPipeWidth = 100;
constexpr int kUnknownTerminalWidth = 80;

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

// The first variable that is set decides, as in setlocale().
bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const auto value = environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos;
  }
  return false;
}

}  // namespace

Terminal::Terminal(std::FILE* stream) : stream_(stream) {
  const auto kind = environment("TERM");
  interactive_ = isatty(fileno(stream)) == 1 && !kind.empty() && kind != "dumb";
  color_ = interactive_ && environment("NO_COLOR").empty();
  unicode_ = interactive_ && locale_is_utf8();
}

Terminal::~Terminal() {
  clear_status();
}

int Terminal::width() const {
  if (!interactive_) return kPipeWidth;
  winsize size{};
  if (ioctl(fileno(stream_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return kUnknownTerminalWidth;
}

void Terminal::line(std::string_view text) {
  std::string out;
  if (status_shown_) out += "\r\x1b[2K";
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += printable(text.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  if (status_shown_) out += status_;
  write(out);
}

void Terminal::status(std::string_view text) {
  if (!interactive_) return;
  write(fmt::format("\r\x1b[2K{}", text));
  status_ = text;
  status_shown_ = true;
}

void Terminal::clear_status() {
  if (!status_shown_) return;
  write("\r\x1b[2K");
  status_shown_ = false;
}

void Terminal::write(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stream_) == text.size();
  if (written && std::fflush(stream_) == 0) return;
  const int error = errno;
  std::clearerr(stream_);
  if (!warned_) {
    std::fprintf(stderr, "warning: cannot write to standard output (%s); the run goes on\n",
                 std::strerror(error));
  }
  warned_ = true;
}

int display_width(std::string_view text) {
  int count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace megatron
