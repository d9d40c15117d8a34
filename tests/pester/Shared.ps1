# What every test file uses: the staged module, never the build's own output, and a simulated pool of its own.
$script:Module = (Resolve-Path "$PSScriptRoot/../../out/VMatrix").Path

# Makes a pool in a new folder below the test drive: three matrix hosts, a chamber, two services; returns the file's path.
function New-TestPool {
    param(
        # Settings of the simulation, as lines of YAML.
        [string[]] $Simulation = @('bootTime: 100ms', 'wakeTime: 20ms')
    )
    $folder = Join-Path $TestDrive ([guid]::NewGuid().ToString('n').Substring(0, 8))
    $null = New-Item -ItemType Directory $folder
    $file = Join-Path $folder 'pool.yaml'
    Set-Content $file @"
pool: test
hypervisor: simulation
hosts:
  - { name: host1, memory: 4 GiB, servers: 2 }
  - { name: host2, memory: 4 GiB, servers: 2 }
  - { name: host3, memory: 4 GiB, servers: 2 }
  - { name: chamber1, role: chamber, memory: 4 GiB }
services:
  - { name: FINANCE, priority: 4, least: 1, most: 4, capacity: 10/s, isolation: shared, image: { memory: 512 MiB } }
  - { name: SPORTS, least: 1, most: 4, capacity: 10/s, isolation: shared, image: { memory: 512 MiB } }
balancer: { kind: simulation }
simulation:
$($Simulation | ForEach-Object { "  $_" } | Out-String)
"@
    $file
}
