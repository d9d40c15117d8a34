# The demo's switch on doubled Hyper-V hosts, as an admin would come to it: from an empty folder, with PowerShell alone.
Describe 'A pool of Hyper-V hosts' {
    BeforeAll {
        . "$PSScriptRoot/Shared.ps1"
        . "$PSScriptRoot/Doubles.ps1"
        Import-Module $Module
        $folder = Join-Path $TestDrive 'office'
        $null = New-Item -ItemType Directory $folder, (Join-Path $folder 'gold')
        $world = Use-DoubleWorld (Join-Path $TestDrive 'world') -HostName hv1, hv2, hv3
        $guests = Start-DoubleGuest $world
        Set-Content (Join-Path $folder 'gold/finance.vhdx') 'finance'
        Set-Content (Join-Path $folder 'gold/sports.vhdx') 'sports'
        $ports = Get-FreePort 2
        $pool = Join-Path $folder 'pool.yaml'
        Set-Content $pool @"
pool: office
hypervisor: hyperv
hosts:
  - { name: hv1, memory: 1 GiB, storage: $folder/hv1 }
  - { name: hv2, memory: 1 GiB, storage: $folder/hv2 }
  - { name: hv3, memory: 1 GiB, storage: $folder/hv3, role: chamber }
hyperv: { switch: LAN }
services:
  - { name: FINANCE, priority: 4, least: 1, most: 3, listen: "127.0.0.1:$($ports[0])", port: 18080, capacity: 5/s, concurrency: 1, isolation: shared, image: { disk: gold/finance.vhdx, memory: 256 MiB, specialize: cloudInit }, addresses: { range: 127.41.0.10-127.41.0.20, prefix: 24 }, health: { path: /, interval: 1s } }
  - { name: SPORTS, least: 1, most: 3, listen: "127.0.0.1:$($ports[1])", port: 18080, capacity: 5/s, concurrency: 1, isolation: shared, image: { disk: gold/sports.vhdx, memory: 256 MiB }, health: { path: /, interval: 1s } }
balancer: { kind: haproxy, drain: 2s, queueTimeout: 2s }
oracle: { interval: 500ms, calm: 1s }
"@
        $env:VMATRIX_POOL = $pool
    }

    AfterAll {
        Stop-DoublePool $folder $guests
    }

    It 'is right as it is written' {
        Test-VMatrixPool $pool | Should -BeTrue
        (Get-VMatrixHost).Reachable | Should -Not -Contain $false
        Get-VMatrixServer | Should -BeNullOrEmpty
    }

    It 'is switched on by one command, and every server answers' {
        $records = Invoke-VMatrixSwitch -PassThru
        $records.Error | Where-Object { $_ } | Should -BeNullOrEmpty
        $servers = Get-VMatrixServer -Stage Matrix
        $servers.Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
        $servers.Health | Select-Object -Unique | Should -Be 'Healthy'
        foreach ($port in $ports) { (Invoke-WebRequest "http://127.0.0.1:$port/").StatusCode | Should -Be 200 }
        # What Hyper-V's own commands show is the truth: differencing disks on a gold disk in the nest, our line in the notes.
        $vms = Get-VM -ComputerName hv1, hv2, hv3
        @($vms | Where-Object State -EQ Running).Count | Should -Be 2
        $vms.Notes | ForEach-Object { $_ | Should -BeLike 'VMatrix:{*}' }
        (Get-VHD -Path $vms[0].HardDrives[0].Path -ComputerName $vms[0].ComputerName).ParentPath | Should -BeLike '*/nest/images/*/disk.vhdx'
    }

    It 'leaves a machine that is not ours alone, and an admin''s notes as they were' {
        $other = $world.AddForeign('hv1', 'mail', 'do not touch')
        $vm = Get-VM -ComputerName hv1, hv2 | Where-Object Notes -Like 'VMatrix:*' | Select-Object -First 1
        $server = Get-VMatrixServer -Stage Matrix | Where-Object Name -EQ $vm.Name
        $vm | Set-VM -Notes ($vm.Notes + "`r`nowner: Ada")
        # Hyper-V's own object names the server that its machine is, and a machine that is none names none.
        $moved = Get-VM -ComputerName hv1, hv2 | Where-Object Name -EQ $vm.Name | Move-VMatrixServer -Stage Nest -PassThru
        $moved.Id | Should -Be $server.Id
        { Get-VM -Id $other -ComputerName hv1 | Move-VMatrixServer -Stage Nest -ErrorAction Stop } | Should -Throw -ErrorId 'ServerNotFound,*'
        $moved.Stage | Should -Be 'Nest'
        $moved.Power | Should -Be 'Saved'
        $back = Move-VMatrixServer $server -Stage Matrix -PassThru
        $back.Power | Should -Be 'Running'
        (Get-VM -ComputerName hv1, hv2 | Where-Object Name -EQ $vm.Name).Notes | Should -BeLike "*}`r`nowner: Ada"
        (Get-VM -Id $other -ComputerName hv1).State | Should -Be 'Running'
        (Get-VM -Id $other -ComputerName hv1).Notes | Should -Be 'do not touch'
    }

    It 'takes a machine of the admin''s into a service and lets it go again, with its notes as they were' {
        $vm = Get-VM -ComputerName hv1, hv2 | Where-Object Name -EQ mail
        (Get-VMatrixServer -Foreign -Name mail).MachineId | Should -Be $vm.Id
        { $vm | Register-VMatrixServer -Service SPORTS -ErrorAction Stop } | Should -Throw -ErrorId 'MoveRefused,*' -ExpectedMessage '*no address*'
        (Get-VM -Id $vm.Id -ComputerName hv1).Notes | Should -Be 'do not touch'
        $vm | Get-VMNetworkAdapter | Connect-VMNetworkAdapter -SwitchName LAN
        $server = Get-VM -Id $vm.Id -ComputerName hv1 | Register-VMatrixServer -Service SPORTS
        "$($server.Stage)", "$($server.Health)", $server.Host, $server.Name | Should -Be 'Matrix', 'Healthy', 'hv1', 'mail'
        (Get-VM -Id $vm.Id -ComputerName hv1).Notes | Should -BeLike 'do not touch*VMatrix:{*}'
        Unregister-VMatrixServer $server -Force
        (Get-VM -Id $vm.Id -ComputerName hv1).Notes | Should -Be 'do not touch'
        (Get-VM -Id $vm.Id -ComputerName hv1).State | Should -Be 'Running'
    }

    It 'tells what stands in the way of a move with a command that mends it, and does not try' {
        $server = Get-VMatrixServer -Stage Matrix | Select-Object -First 1
        $to = 'hv1', 'hv2' | Where-Object { $_ -ne $server.Host }
        Disable-VMMigration -ComputerName $to
        $found = Compare-VMatrixServer $server -Destination $to | Where-Object What -EQ LiveMigrationOff
        "$($found.Group)", "$($found.Severity)", $found.Mend | Should -Be 'People', 'Blocks', "Enable-VMMigration -ComputerName $to"
        { Move-VMatrixServer $server -Destination $to -Live -ErrorAction Stop } | Should -Throw -ErrorId 'MoveObstructed,*' -ExpectedMessage "*Enable-VMMigration -ComputerName $to*"
        & ([scriptblock]::Create($found.Mend))
        Compare-VMatrixServer $server -Destination $to | Where-Object What -EQ LiveMigrationOff | Should -BeNullOrEmpty
    }

    It 'tells what is wrong with a host, and how to mend it' {
        $world.SetReadable('hv2', $false)
        (Get-VMatrixHost hv2 -ErrorAction SilentlyContinue).Problem | Should -BeLike '*Hyper-V Administrators*'
        $world.SetReadable('hv2', $true)
        (Get-VMatrixHost hv2).Problem | Should -BeNullOrEmpty
    }

    It 'is the same to the program, which is no PowerShell and starts one' {
        $oracle = Join-Path $Module 'bin/net10.0/engine/vmatrix-oracle.dll'
        $told = (dotnet exec $oracle status $pool 2>&1) -join "`n"
        $LASTEXITCODE | Should -Be 0
        foreach ($server in Get-VMatrixServer -Stage Matrix -SkipHealthCheck) { $told | Should -BeLike "*$($server.Name)*" }
    }

    It 'switches servers to where the load is, and takes them back' -Tag Long {
        $oracle = Join-Path $Module 'bin/net10.0/engine/vmatrix-oracle.dll'
        $shell = [powershell]::Create()
        $load = $null
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Invoke-VMatrixSwitch -Pool '$pool' -Continuous -Interval 00:00:00.5 -PassThru")
            $run = $shell.BeginInvoke()
            # The hold of what was moved by hand must not keep it.
            $load = Start-Process dotnet -ArgumentList 'exec', $oracle, 'load', $pool, '--service', 'FINANCE', '--rate', '11', '--duration', '25s' -PassThru -RedirectStandardOutput (Join-Path $folder 'load.txt')
            $most = 0
            while (-not $load.HasExited) {
                $most = [Math]::Max($most, @(Get-VMatrixServer -Stage Matrix -SkipHealthCheck | Where-Object Service -EQ FINANCE).Count)
                Start-Sleep -Milliseconds 300
            }
            $most | Should -BeGreaterOrEqual 2
            $said = Get-Content (Join-Path $folder 'load.txt') -Raw
            $said | Should -Match 'FINANCE: (\d+) requests, (\d+) served'
            $said | Should -Match ' 0 failed'
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            do {
                Start-Sleep -Milliseconds 300
                $left = @(Get-VMatrixServer -Stage Matrix -SkipHealthCheck | Where-Object Service -EQ FINANCE).Count
            } while ($left -gt 1 -and $patience.Elapsed.TotalSeconds -lt 90)
            $left | Should -Be 1
        }
        finally {
            $shell.Stop()
            $shell.Dispose()
            if ($load -and -not $load.HasExited) { $load.Kill() }
        }

        Get-VMatrixMove -Status Running, Pending, Interrupted | Should -BeNullOrEmpty
        $world.Violations | Should -BeNullOrEmpty
    }
}
