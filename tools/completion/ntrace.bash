# Completion of ntrace for bash. The program itself knows its commands, options and values.
_ntrace() {
  # Not COMP_WORDS: bash cuts those at ":" and "=" as well.
  local line=${COMP_LINE:0:COMP_POINT} words=() word text
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local last=${words[-1]}
  # What readline replaces begins behind the last of these.
  local kept=${last%"${last##*[=:]}"}
  COMPREPLY=()
  while IFS=$'\t' read -r word text; do
    COMPREPLY+=("${word#"$kept"}")
  done < <("${BASH_ALIASES[${words[0]}]:-${words[0]}}" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _ntrace ntrace
