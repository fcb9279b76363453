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
    "${cc[@]}" -shared -fPIC -DABI=0x30001 tests/hosts/common/fault.c "-Wl,--no-as-needed" "${link[@]}" -o "$1/abi.so"
}
