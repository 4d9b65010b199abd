# For bash: `. completions/analytics.bash` makes the command `analytics`, whose words are completed by Tab.

_analytics_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

analytics() {
    ANALYTICS_COMMAND=${ANALYTICS_COMMAND:-analytics} \
        "$_analytics_root/.venv/bin/python" "$_analytics_root/main.py" "$@"
}

_analytics() {
    local kind value IFS=' '
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _MAIN_PY_COMPLETE=bash_complete analytics 2>/dev/null)
}

complete -F _analytics analytics
