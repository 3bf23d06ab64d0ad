#pragma once
// A strict XML parser's opinion.
#include <expat.h>

#include <memory>
#include <string>

namespace ntrace::test {

/// Empty when the text is well-formed XML, else expat's words and the line.
inline std::string xml_error(const std::string& text) {
  const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser{
      XML_ParserCreate("UTF-8"), &XML_ParserFree};
  if (XML_Parse(parser.get(), text.data(), static_cast<int>(text.size()), 1) == XML_STATUS_OK)
    return "";
  return std::string{XML_ErrorString(XML_GetErrorCode(parser.get()))} + " in line " +
         std::to_string(XML_GetCurrentLineNumber(parser.get()));
}

}  // namespace ntrace::test
