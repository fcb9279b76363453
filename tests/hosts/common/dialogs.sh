# The dialogs of the plug-ins for GIMP, on a virtual screen: to be read by bash after lib.sh, with these functions of the host at hand:
#
#   gimp_screen LOG SCRIPT...   runs GIMP with its windows
#   restyle_as MODE             a call of plug-in-nada-restyle on (the-picture) and its (layer ...), in Script-Fu
#   new_domain_as MODE          a call of plug-in-nada-new-domain
#
# and in `tools` the Script-Fu functions of the host's run, with (layer-count image) and (wait-for file). One GIMP for all: last used values are per session in GIMP 2.10.

# Messages would open windows: what a script has to say goes to a file. With a wait it is in step with the keys.
steps="
(define (say name . what)
  (let ((port (open-output-file (string-append \"$work/said-\" name))))
    (for-each (lambda (one) (display one port)) what)
    (close-output-port port)))
(define (say-state name image)
  (say name \"dirty \" (car (gimp-image-is-dirty image)) \" layers \" (layer-count image)))
(define (undo name) (say name) (wait-for (string-append \"$work/undone-\" name)))"

# undo NAME: what the user does, once the script asks for it.
undo() {
    wait_for test -e "$work/said-$1"
    dialog "GIMP"
    keys ctrl+z
    sleep 1
    touch "$work/undone-$1"
}

test_dialogs() {
    local gimp_pid
    tools+=$steps
    start_screen
    gimp_screen "$work/screen.log" \
        "(let ((image (picture))) (gimp-image-clean-all image) (gimp-display-new image) (write-pixels (layer image) \"screen-before\")
           $(restyle_as RUN-INTERACTIVE)
           (write-pixels (layer image) \"screen-after\")
           (undo \"in-place\"))" \
        "(begin (write-pixels (layer (the-picture)) \"screen-undone\") (say-state \"undone\" (the-picture)))" \
        "(begin $(restyle_as RUN-WITH-LAST-VALS) (write-pixels (layer (the-picture)) \"screen-last\"))" \
        "(begin (gimp-image-clean-all (the-picture)) (write-pixels (layer (the-picture)) \"layer-dialog-before\")
           $(restyle_as RUN-INTERACTIVE)
           (say-state \"layered\" (the-picture))
           (write-pixels (layer (the-picture)) \"layer-dialog-after\")
           (undo \"layer\"))" \
        "(begin (write-pixels (layer (the-picture)) \"layer-undone\") (say-state \"layer-undone\" (the-picture)))" \
        "(begin $(restyle_as RUN-WITH-LAST-VALS) (say-state \"layer-last\" (the-picture)) (write-pixels (layer (the-picture)) \"layer-last\"))" \
        "(begin $(new_domain_as RUN-INTERACTIVE) $(new_domain_as RUN-WITH-LAST-VALS) (say \"installed\"))" \
        "(begin $(new_domain_as RUN-INTERACTIVE) (say \"stopped\"))" \
        "$(new_domain_as RUN-INTERACTIVE)" \
        '(begin (gimp-image-clean-all (the-picture)) (say "done"))' &
    gimp_pid=$!

    # Keep what an ended run left; words, four steps, ten of inversion, in place, into the gallery.
    dialog "Restyle with text"
    press_until alt+k none_saved
    keys alt+t ctrl+a
    words "a sepia photo"
    keys alt+m ctrl+a
    words 4
    keys alt+y Home alt+i alt+a
    until_gone alt+o
    undo in-place
    check "dialog: the result is the library's" agrees_with_dialog screen in-place
    check "dialog: what an ended run left is kept" "$work/reference" step "$NADA_DOMAINS/a-zombie.nada.safetensors"
    check "dialog: with a thumbnail" "$work/reference" thumbnail a-zombie
    check "dialog: its file is gone" none_saved

    # The dialog has the last used values, so that only the output changes.
    dialog "Restyle with text"
    check "one step of undo brings the picture back" cmp "$work/screen-before.raw" "$work/screen-undone.raw"
    check "and leaves none" says "$work/said-undone" "dirty 0 layers 1"
    check "last used values: the same result" cmp "$work/screen-after.raw" "$work/screen-last.raw"
    keys alt+l
    until_gone alt+o
    undo layer
    dialog "New domain from text"
    check "dialog: OK makes a layer above" says "$work/said-layered" "layers 2"
    check "dialog: the layer is the library's" agrees_with_dialog layer-dialog new-layer
    check "one step of undo takes a new layer away" says "$work/said-layer-undone" "dirty 0 layers 1"
    check "and the picture is as it was" cmp "$work/layer-dialog-before.raw" "$work/layer-undone.raw"
    check "last used values: one layer more" says "$work/said-layer-last" "layers 2"
    check "last used values: the same layer" cmp "$work/layer-dialog-after.raw" "$work/layer-last.raw"

    keys alt+t ctrl+a
    words "a silhouette"
    keys alt+m ctrl+a
    words 3
    keys alt+i
    wait_for test -e "$work/said-installed"
    check "dialog: Install learns the words and installs" step_is_between a-silhouette 3 3
    check "last used values: the same domain, under the next name" \
        "$work/reference" same-domain "$NADA_DOMAINS/a-silhouette.nada.safetensors" "$NADA_DOMAINS/a-silhouette-2.nada.safetensors"

    dialog "New domain from text"
    keys alt+t ctrl+a
    words "neon lights"
    keys alt+m ctrl+a
    words 9999
    press_until alt+a saved
    keys alt+p
    # The next dialog's window may get the number of this one.
    press_until alt+i test -e "$work/said-stopped"
    check "a stopped domain is installed as it is" step_is_between neon-lights 1 9998

    dialog "New domain from text"
    keys alt+t ctrl+a
    words "a marble bust"
    keys alt+m ctrl+a
    words 9999
    press_until alt+a saved
    keys Escape
    sleep 1
    keys Escape
    sleep 1
    # The question: keep it is the default.
    keys Return
    wait_for test -e "$work/said-done"
    check "Cancel asks, and what was reached can be kept" step_is_between a-marble-bust 1 9998
    wait $gimp_pid
}
