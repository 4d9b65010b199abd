# For zsh: `. completions/analytics.zsh` makes the command `analytics`, whose words are completed by Tab.

_analytics_root=${${(%):-%x}:A:h:h}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }

analytics() {
    ANALYTICS_COMMAND=${ANALYTICS_COMMAND:-analytics} \
        $_analytics_root/.venv/bin/python $_analytics_root/main.py "$@"
}

_analytics() {
    local kind value text
    local -a described
    while read -r kind && read -r value && read -r text; do
        case $kind in
            plain) described+=("${value//:/\\:}${${text:#_}:+:$text}") ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) \
        _MAIN_PY_COMPLETE=zsh_complete analytics 2>/dev/null)
    (( $#described )) && _describe -V 'word' described
}

compdef _analytics analytics
