// megatron tokenize: encodes standard input as one text and prints its ids on one line; with
// --decode, turns ids back into text.
#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "megatron/base/error.h"
#include "megatron/config/validate/validate.h"
#include "megatron/tokenizers/build_tokenizer.h"

#include "cli/command.h"

namespace megatron {
namespace {

std::string standard_input() {
  std::string text;
  char piece[1 << 16];
  while (const size_t count = std::fread(piece, 1, sizeof piece, stdin)) text.append(piece, count);
  check(std::ferror(stdin) == 0, "Expected to read standard input to its end, but reading failed");
  return text;
}

std::vector<int64_t> parse_ids(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f,";
  std::vector<int64_t> ids;
  for (size_t begin = 0; (begin = text.find_first_not_of(kSpace, begin)) < text.size();) {
    const size_t end = std::min(text.find_first_of(kSpace, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    int64_t id = -1;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    check(error == std::errc() && rest == word.data() + word.size(),
          "Expected token ids on standard input, but got '{}'", word.substr(0, 40));
    ids.push_back(id);
    begin = end;
  }
  return ids;
}

}  // namespace

int run_tokenize(const ParsedCommand& command) {
  Options options = command.options;
  validate(options, /*world_size=*/1, Command::tokenize);
  const auto tokenizer = build_tokenizer(options.tokenizer);
  const std::string input = standard_input();
  if (options.decode) {
    const std::string text = tokenizer->decode(parse_ids(input));
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  }
  const auto encoder = tokenizer->make_encoder();
  std::vector<int64_t> ids;
  encoder->encode(input, ids);
  std::string line;
  for (const int64_t id : ids) {
    if (!line.empty()) line += ' ';
    line += fmt::format_int(id).c_str();
  }
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stdout);
  if (encoder->bytes_left_out() > 0) {
    std::cerr << fmt::format(
        "note: the vocabulary has no token for {} bytes of the text; they were left out\n",
        encoder->bytes_left_out());
  }
  return 0;
}

}  // namespace megatron
