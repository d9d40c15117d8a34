# Hosts that a doubled SCVMM manages, as an admin would come to them: from an empty folder, with PowerShell alone.
Describe 'A pool of SCVMM hosts' {
    BeforeAll {
        . "$PSScriptRoot/Shared.ps1"
        . "$PSScriptRoot/Doubles.ps1"
        Import-Module $Module
        $folder = Join-Path $TestDrive 'office'
        $null = New-Item -ItemType Directory $folder
        $world = Use-DoubleWorld (Join-Path $TestDrive 'world') -HostName hv1, hv2
        $world.AddHost([VMatrix.Doubles.HostState]@{ Name = 'library1'; IsLibrary = $true; MachinePath = '\\library1\MSSCVMMLibrary' })
        'finance.vhdx', 'sports.vhdx' | ForEach-Object { $world.AddLibraryDisk('library1', $_, 4GB) }
        $guests = Start-DoubleGuest $world
        $ports = Get-FreePort 2
        $pool = Join-Path $folder 'pool.yaml'
        $text = @"
pool: office
hypervisor: scvmm
hosts:
  - { name: hv1, memory: 1 GiB }
  - { name: hv2, memory: 1 GiB }
services:
  - { name: FINANCE, least: 1, most: 2, listen: "127.0.0.1:$($ports[0])", port: 18080, isolation: shared, image: { disk: finance.vhdx, memory: 256 MiB }, health: { path: /, interval: 1s } }
  - { name: SPORTS, least: 1, most: 2, listen: "127.0.0.1:$($ports[1])", port: 18080, isolation: shared, image: { disk: sports.vhdx, memory: 256 MiB }, health: { path: /, interval: 1s } }
balancer: { kind: haproxy, drain: 2s }
"@
        Set-Content $pool $text
        $env:VMATRIX_POOL = $pool
    }

    AfterAll {
        Stop-DoublePool $folder $guests
    }

    It 'tells which keys are missing' {
        $findings = Test-VMatrixPool $pool -Detailed
        $findings.Key | Sort-Object | Should -Be 'scvmm.library', 'scvmm.server', 'scvmm.share'
        $findings.Found | Select-Object -Unique | Should -Be 'nothing'
        Set-Content $pool ($text + "`nscvmm: { server: vmm1, library: library1, share: '\\library1\MSSCVMMLibrary\VMatrix' }")
        Test-VMatrixPool $pool | Should -BeTrue
        (Get-VMatrixHost).Reachable | Should -Be $true, $true
    }

    It 'is reached through a child, for VMM''s module does not load in PowerShell 7' {
        # Others' processes may end while they are looked at.
        @(Get-Process pwsh | Where-Object { try { $_.Parent.Id -eq $PID -and $_.CommandLine -like '*serve.ps1*' } catch { $false } }).Count | Should -Be 1
        Get-Module VirtualMachineManager | Should -BeNullOrEmpty
    }

    It 'is switched on by one command, and every server answers' {
        $records = Invoke-VMatrixSwitch -PassThru
        $records.Error | Where-Object { $_ } | Should -BeNullOrEmpty
        $servers = Get-VMatrixServer -Stage Matrix
        $servers.Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
        $servers.Health | Select-Object -Unique | Should -Be 'Healthy'
        foreach ($port in $ports) { (Invoke-WebRequest "http://127.0.0.1:$port/").StatusCode | Should -Be 200 }
        # What VMM's own commands show is the truth.
        $vms = Get-SCVirtualMachine -VMMServer (Get-SCVMMServer vmm1) -All
        @($vms | Where-Object Status -EQ Running).Count | Should -Be 2
        $vms.BlockDynamicOptimization | Select-Object -Unique | Should -BeTrue
    }

    It 'moves a server live and into the library, and what VMM shows agrees' {
        $server = Get-VMatrixServer -Stage Matrix | Select-Object -First 1
        $to = 'hv1', 'hv2' | Where-Object { $_ -ne $server.Host }
        Compare-VMatrixServer $server -Destination $to | Where-Object Severity -EQ Blocks | Should -BeNullOrEmpty
        (Move-VMatrixServer $server -Destination $to -Live -PassThru).Host | Should -Be $to
        (Move-VMatrixServer $server -Stage Nest -PassThru).Power | Should -Be 'Saved'
        (Get-SCVirtualMachine -VMMServer (Get-SCVMMServer vmm1) -Name $server.Name).Status | Should -Be 'Stored'
        (Move-VMatrixServer $server -Stage Matrix -PassThru).Health | Should -Be 'Healthy'
    }

    It 'leaves a machine that is not ours alone until it is registered, and when it is let go' {
        $id = $world.AddForeign('hv1', 'mail', 'do not touch')
        # It was started with the line above, and tells its address once it is up.
        Wait-Until { (Get-SCVirtualMachine -VMMServer (Get-SCVMMServer vmm1) -ID $id).VirtualNetworkAdapters.IPv4Addresses }
        Get-SCVirtualMachine -VMMServer (Get-SCVMMServer vmm1) -ID $id | Set-SCVirtualMachine -Description 'owner: Ada' | Out-Null
        $server = Get-VMatrixServer -Foreign -Name mail | Register-VMatrixServer -Service SPORTS
        "$($server.Stage)", $server.Host | Should -Be 'Matrix', 'hv1'
        Unregister-VMatrixServer $server -Force
        $vm = Get-SCVirtualMachine -VMMServer (Get-SCVMMServer vmm1) -ID $id
        "$($vm.Status)", $vm.Description, $vm.BlockDynamicOptimization | Should -Be 'Running', 'owner: Ada', $false
    }

    It 'tells a host that does not answer VMM, and a library that the account may not see' {
        $world.SetReadable('library1', $false)
        { Get-VMatrixServer -ErrorAction Stop } | Should -Throw -ErrorId 'NestUnreachable,*' -ExpectedMessage '*scvmm.library*'
        # What is stored there is not told; the hosts are listed all the same.
        @(Get-VMatrixServer -ErrorAction SilentlyContinue -ErrorVariable silent).Count | Should -BeGreaterThan 0
        $silent.FullyQualifiedErrorId | Should -Be 'NestUnreachable,VMatrix.Commands.GetVMatrixServerCommand'
        $world.SetReadable('library1', $true)
        $world.SetReadable('hv2', $false)
        (Get-VMatrixHost hv2 -ErrorAction SilentlyContinue).Problem | Should -BeLike '*user role*'
        $world.SetReadable('hv2', $true)
        $world.Violations | Should -BeNullOrEmpty
    }
}
