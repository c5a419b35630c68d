# Sums cargo's result lines: the last line of `make test`.
/^test result:/ { passed += $4; failed += $6; ignored += $8 }
/^error: .*could not compile/ { broken++ }
END {
    if (ignored) printf "%d ignored, ", ignored
    printf "%d passed, %d failed\n", passed, failed + broken
}
