# For fish: `source completions/analytics.fish` makes the command `analytics`, whose words are completed by Tab.

set -g _analytics_root (realpath (status dirname)/..)

function analytics
    set -q ANALYTICS_COMMAND; or set -lx ANALYTICS_COMMAND analytics
    $_analytics_root/.venv/bin/python $_analytics_root/main.py $argv
end

function _analytics
    set -lx COMP_WORDS (commandline -cp)
    set -lx COMP_CWORD (commandline -t)
    set -lx _MAIN_PY_COMPLETE fish_complete
    for line in (analytics 2>/dev/null)
        set -l parts (string split --max 1 , -- $line)
        switch $parts[1]
            case plain
                echo $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
        end
    end
end

complete --no-files --command analytics --arguments '(_analytics)'
