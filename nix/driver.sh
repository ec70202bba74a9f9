# shellcheck shell=sh
# To be sourced: lets programs of the store find the host's NVIDIA driver, and no other library of the host.
# NixOS keeps the driver in /run/opengl-driver; other distributions among everything else, so a folder of links
# to only the driver's libraries is added to the search path. Without a driver nothing is set.

proofcard_driver() {
    for folder in ${PROOFCARD_DRIVER:-/run/opengl-driver/lib /usr/local/nvidia/lib64 /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib/wsl/lib /usr/lib}; do
        if [ -e "$folder/libcuda.so.1" ]; then
            echo "$folder"
            return
        fi
    done
}

proofcard_libraries=$(proofcard_driver)
if [ -n "$proofcard_libraries" ]; then
    if [ "$proofcard_libraries" != /run/opengl-driver/lib ]; then
        proofcard_links=${XDG_CACHE_HOME:-$HOME/.cache}/proofcard/driver
        mkdir -p "$proofcard_links"
        for library in libcuda libnvidia-ml libnvidia-ptxjitcompiler libnvidia-nvvm libnvidia-gpucomp libnvidia-encode libnvcuvid; do
            for file in "$proofcard_libraries/$library".so*; do
                if [ -e "$file" ]; then ln -sfn "$file" "$proofcard_links/${file##*/}"; fi
            done
        done
        proofcard_libraries=$proofcard_links
    fi
    export LD_LIBRARY_PATH="$proofcard_libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export TRITON_LIBCUDA_PATH="$proofcard_libraries"
fi
