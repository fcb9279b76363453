# For the tests of hosts: to be read by bash, in the root of the tree, with `library` set to the folder of libnada.so.
passed=0 failed=0

# check NAME COMMAND...: counts one test.
check() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "  ok: $name"
    else
        failed=$((failed + 1))
        echo "  FAILED: $name"
    fi
}

# says FILE TEXT: the text stands in the file.
says() {
    grep -qF -- "$2" "$1" || { echo "    not said: $2"; return 1; }
}

# says_often FILE TEXT COUNT: in that many lines.
says_often() {
    local count
    count=$(grep -cF -- "$2" "$1" || true)
    [ "$count" = "$3" ] || { echo "    said $count times, not $3: $2"; return 1; }
}

ends() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

# build_reference FOLDER: the program that knows what is right, and stand-ins for a library that fails.
build_reference() {
    local cc=(${CC:-cc} -std=c11 -Wall -Wextra -Werror -Iinclude)
    local link=("-L$library" -lnada "-Wl,-rpath,$library")
    "${cc[@]}" tests/hosts/common/reference.c "${link[@]}" -lm -o "$1/reference"
    "${cc[@]}" -shared -fPIC tests/hosts/common/fault.c "-Wl,--no-as-needed" "${link[@]}" -o "$1/crash.so"
    "${cc[@]}" -shared -fPIC -DABI=0x70001 tests/hosts/common/fault.c "-Wl,--no-as-needed" "${link[@]}" -o "$1/abi.so"
}

# wait_for COMMAND...: until it succeeds, two minutes at most.
wait_for() {
    local try
    for ((try = 0; try < 240; try++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.5
    done
    echo "    waited in vain for: $*"
    return 1
}

# --- The plug-in under test; $work is the test's folder ---

# agrees NAME FORMAT REGION OUTPUT TOLERANCE [MASK]
agrees() {
    "$work/reference" check "$work/$1-before.raw" "$work/$1-after.raw" 320 240 "$2" $3 "$4" "$NADA_DOMAINS/a-pencil-sketch.nada.safetensors" \
        15 7 0.9 "$5" ${6:+"$work/$6.raw"}
}

# agrees_with_dialog NAME OUTPUT: the same for what a dialog made with its defaults, 10 steps of inversion and the new domain a-sepia-photo.
agrees_with_dialog() {
    "$work/reference" check "$work/$1-before.raw" "$work/$1-after.raw" 320 240 rgb8 0 0 320 240 "$2" \
        "$NADA_DOMAINS/a-sepia-photo.nada.safetensors" 10 1 1.0 0.000001
}

# step_is_between DOMAIN LEAST MOST
step_is_between() {
    local step
    step=$("$work/reference" step "$NADA_DOMAINS/$1.nada.safetensors") || return 1
    echo "    $step"
    [ "${step%% *}" -ge "$2" ] && [ "${step%% *}" -le "$3" ]
}

# end_plug_in CONDITION...: kills the running plug-in once the condition holds.
end_plug_in() {
    local try process
    for ((try = 0; try < 600; try++)); do
        sleep 0.1
        process=$(pgrep -f "^$work/gimp/plug-ins/nada/nada .*-run" || true)
        [ -n "$process" ] && "$@" && kill -KILL $process && return 0
    done
    return 1
}
saved() { compgen -G "$XDG_STATE_HOME/nada/reached-*.nada.safetensors" >/dev/null; }
none_saved() { ! saved; }
running_for_a_second() { sleep 1; }

# --- A virtual screen ---

screen= window=

start_screen() {
    local number
    exec 9<> <(:)
    Xvfb -displayfd 9 -screen 0 1400x1000x24 -nolisten tcp >/dev/null 2>&1 &
    screen=$!
    read -r -t 20 number <&9
    export DISPLAY=:$number
}

stop_screen() {
    [ -z "$screen" ] || kill "$screen" 2>/dev/null || true
}

find_window() {
    window=$(xdotool search --onlyvisible --name "$1" 2>/dev/null | tail -1)
    [ -n "$window" ]
}

# dialog TITLE: waits for the window, which gets the keys from then on.
dialog() {
    wait_for find_window "$1"
    find_window "$1"
    # There is no window manager: it has the focus once it is told so, and its widgets a moment later.
    xdotool windowfocus "$window"
    sleep 1
}

keys() {
    local key
    for key; do
        xdotool key --clearmodifiers "$key"
        sleep 0.2
    done
}

words() {
    xdotool type --delay 20 "$1"
    sleep 0.2
}

# press_until KEY COMMAND...: until it succeeds, two minutes at most; for what does nothing before it can be used, and nothing the second time.
press_until() {
    local key=$1
    shift
    pressed_and() { "$@" || { xdotool key --clearmodifiers "$key" && "$@"; }; }
    wait_for pressed_and "$@"
}

# until_gone KEY: presses it until the window closes; buttons that cannot be used yet ignore it.
until_gone() {
    local try
    for ((try = 0; try < 240; try++)); do
        xdotool search --onlyvisible --name "" 2>/dev/null | grep -qx "$window" || return 0
        xdotool key --clearmodifiers "$1"
        sleep 0.5
    done
    echo "    the window did not close"
    return 1
}
